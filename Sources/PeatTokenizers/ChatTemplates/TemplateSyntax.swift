/// An expression of a chat template and the line it stands on.
final class TemplateExpression: Sendable {
  enum Kind: Sendable {
    case constant(TemplateValue)
    case name(String)
    case list([TemplateExpression])
    case dictionary([(key: TemplateExpression, value: TemplateExpression)])
    case unary(String, TemplateExpression)
    case binary(String, TemplateExpression, TemplateExpression)
    case comparison(TemplateExpression, [(operation: String, value: TemplateExpression)])
    case condition(TemplateExpression, then: TemplateExpression, otherwise: TemplateExpression?)
    /// `value.name`, and `value[index]`; in Python the first looks for a method before an entry.
    case attribute(TemplateExpression, String)
    case item(TemplateExpression, TemplateExpression)
    case slice(TemplateExpression, [TemplateExpression?])
    case call(TemplateExpression, TemplateArguments)
    case filter(TemplateExpression, String, TemplateArguments)
    case test(TemplateExpression, String, TemplateArguments)
  }
  let kind: Kind
  let line: Int
  /// How many levels of expressions there are: bounded, as the evaluation goes down them.
  let depth: Int

  init(_ kind: Kind, line: Int) {
    self.kind = kind
    self.line = line
    let children: [TemplateExpression?] =
      switch kind {
      case .constant, .name: []
      case .list(let elements): elements
      case .dictionary(let entries): entries.flatMap { [$0.key, $0.value] }
      case .unary(_, let value), .attribute(let value, _): [value]
      case .binary(_, let left, let right), .item(let left, let right): [left, right]
      case .comparison(let first, let others): [first] + others.map(\.value)
      case .condition(let condition, let then, let otherwise): [condition, then, otherwise]
      case .slice(let value, let bounds): [value] + bounds
      case .call(let value, let arguments), .filter(let value, _, let arguments),
        .test(let value, _, let arguments):
        [value] + arguments.values + arguments.named.map(\.value)
      }
    depth = 1 + (children.compactMap { $0?.depth }.max() ?? 0)
  }
}

struct TemplateArguments: Sendable {
  var values: [TemplateExpression] = []
  var named: [(name: String, value: TemplateExpression)] = []
}

/// A statement of a chat template.
indirect enum TemplateStatement: Sendable {
  case text(String)
  case print(TemplateExpression)
  case choice(
    [(condition: TemplateExpression, body: [TemplateStatement])], otherwise: [TemplateStatement])
  case loop(
    targets: [String], over: TemplateExpression, condition: TemplateExpression?,
    body: [TemplateStatement], otherwise: [TemplateStatement])
  case assign([String], TemplateExpression)
  case assignAttribute(String, String, TemplateExpression)
  case capture(String, [TemplateStatement])
  case macro(String, [(name: String, standard: TemplateExpression?)], [TemplateStatement])
  /// A part whose place alone matters to others, such as `generation`.
  case group([TemplateStatement])
  case breakLoop
  case continueLoop
}
