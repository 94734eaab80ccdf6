import Foundation
import PeatFederation
import Testing

struct RoundRecordTests {
  @Test(
    arguments: [
      (.delivered, #"{"kind":"delivered"}"#),
      (.failed(reason: "no memory"), #"{"kind":"failed","reason":"no memory"}"#),
      (
        .refused(UpdateRefusal(.notFinite, "NaN in 'a'")),
        #"{"code":"notFinite","kind":"refused","reason":"NaN in 'a'"}"#
      ),
      (.lost(reason: "silent"), #"{"kind":"lost","reason":"silent"}"#),
      (.late, #"{"kind":"late"}"#),
    ] as [(ClientResult, String)])
  func `how a part ended is plain in JSON, and read again`(result: ClientResult, json: String)
    throws
  {
    let encoder = JSONEncoder()
    encoder.outputFormatting = .sortedKeys
    #expect(String(decoding: try encoder.encode(result), as: UTF8.self) == json)
    #expect(try JSONDecoder().decode(ClientResult.self, from: Data(json.utf8)) == result)
  }

  @Test(arguments: [#"{"kind":"failed"}"#, #"{"kind":"won"}"#, #"{"kind":"refused","reason":"x"}"#])
  func `an ending that is none is an error`(json: String) {
    #expect(throws: DecodingError.self) {
      try JSONDecoder().decode(ClientResult.self, from: Data(json.utf8))
    }
  }
}
