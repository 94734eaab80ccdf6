import Testing

extension Tag {
  /// Tests that take minutes or hours; `./fedpeat test` leaves them out unless it is given `--all`.
  @Tag public static var long: Self
}
