import Foundation
import Testing

extension Tag {
  /// Tests that take minutes or hours; `./fedpeat test` leaves them out unless it is given `--all`.
  ///
  /// `swift test` can't choose by tag, so such a test says both: `@Test(.tags(.long), .onlyWithAll)`.
  @Tag public static var long: Self
}

extension Trait where Self == ConditionTrait {
  /// Skips the test unless `./fedpeat test --all` asks for the long ones, which it does with FEDPEAT_LONG_TESTS=1.
  public static var onlyWithAll: Self {
    .enabled(
      if: ProcessInfo.processInfo.environment["FEDPEAT_LONG_TESTS"] == "1",
      "a long test; ./fedpeat test --all runs it")
  }
}
