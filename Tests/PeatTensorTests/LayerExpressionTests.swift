import PeatTensor
import TestSupport
import Testing

/// Expected is what `re.fullmatch` of Python 3.11 says.
@Suite("LayerExpression") struct LayerExpressionTests {
  static let name = "model.layers.10.self_attn.q_proj"

  @Test(arguments: [
    (".*q_proj", true), ("q_proj", false), (".*\\.layers\\.\\d+\\..*proj", true),
    (".*\\.(q|v)_proj$", true), ("^model.*[qk]_proj", true), (".*layers\\.[2-9].*", false),
    (".*layers\\.([0-9]|1[0-9])\\..*", true), ("^(?!.*attn).*$", false),
    ("^(?!.*vision).*$", true), ("(?=model).*\\bq_proj", true), (".*\\w{4}oj", true),
    (".*[^.]{6}", true), ("(?:model|x)\\.(?P<rest>.*)", true), (".*?attn\\.q_proj", true),
    ("model|x", false), ("(a*)*", false), (".*10{1,}.*", true), (".*1{2}.*", false),
    ("[]m]odel.*", true), (".*self{.*", false), ("\\Amodel.*\\Z", true), (".*\\Bproj", true),
  ]) func `means what Python means`(expression: String, holds: Bool) throws {
    #expect(try LayerExpression(expression).matches(Self.name) == holds)
  }

  @Test(arguments: [
    ("(((", "not closed"), (")", "closes nothing"), ("[a", "not closed"), ("*a", "nothing before"),
    ("a**", "behind another"), ("a{3,2}", "below"), ("\\", "backslash"),
    ("(.)\\1", "back references"),
    ("(?<=a)b", "not matched here"), ("(?i)a", "not matched here"), ("a*+", "possessive"),
    ("\\q", "no escape"), ("[b-a]", "range"), ("((a{900}){900}){900}", "too large"),
    (String(repeating: "(", count: 100), "too deeply"),
    (String(repeating: "a", count: 600), "longer"),
  ]) func `what is none says why`(expression: String, why: String) {
    do throws(LayerExpression.Problem) {
      _ = try LayerExpression(expression)
      Issue.record("\(expression) was taken")
    } catch { #expect(error.reason.contains(why), "\(error.reason)") }
  }

  /// Each would keep a matcher that tries again busy for longer than the universe is old.
  @Test(
    .timeLimit(.minutes(1)),
    arguments: [
      "(([a-z._]+)+)+X", "(.*)*(.*)*(.*)*X", "(a|aa|a.|.*)+X", "(?=(.*)*X)(.*)*", "(\\w|\\W|.)*{X",
      "(?=.*(?=.*(?=.*(?=.*(?=.*X))))).*", "(?!.*(?!.*(?!.*(?!.*X)))).*",
      String(repeating: ".*", count: 200) + "X",
    ]) func `no expression stalls`(expression: String) throws
  {
    let name = String(repeating: "model.layers.10.self_attn.q_proj.", count: 30)
    #expect(try !LayerExpression(expression).matches(name))
    #expect(!LayerPattern.matches(expression, name))
  }
}
