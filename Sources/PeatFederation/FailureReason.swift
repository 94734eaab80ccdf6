import Foundation
import PeatTensor

/// What an error says, in words that can be sent to the other side.
func failureReason(_ error: any Error) -> String {
  switch error {
  case is PeatError, is DecodingError: describe(error)
  case let refusal as UpdateRefusal: refusal.message
  case let error as any LocalizedError: error.errorDescription ?? String(describing: error)
  default: String(describing: error)
  }
}
