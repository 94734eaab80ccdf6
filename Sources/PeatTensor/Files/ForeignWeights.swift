/// Weights in another form than safetensors, which is the only one that is read: what keeps them from being read, and what makes safetensors of them.
public struct ForeignWeights: Sendable, Equatable {
  /// The form, told by the ending of a file's name.
  public enum Form: Sendable, Equatable, CaseIterable {
    case pickle, keras, flax, gguf

    fileprivate var endings: [String] {
      switch self {
      case .pickle: [".bin", ".pt", ".pth", ".ckpt", ".pkl"]
      case .keras: [".h5"]
      case .flax: [".msgpack"]
      case .gguf: [".gguf"]
      }
    }
  }

  /// The first of the files that hold weights so.
  public let file: String
  public let form: Form

  /// Looks through the files of a model; `nil` where none holds weights in another form.
  public init?(among files: some Sequence<String>) {
    let files = files.filter { $0 != "training_args.bin" }.sorted()
    for form in Form.allCases {
      if let file = files.first(where: { name in form.endings.contains { name.hasSuffix($0) } }) {
        (self.file, self.form) = (file, form)
        return
      }
    }
    return nil
  }

  /// Why the file is not read, and how to make safetensors of it.
  ///
  /// - Parameters:
  ///   - source: the model as transformers finds it, by its name on the Hub or its folder.
  ///   - classes: those of transformers that read the model and what belongs to it.
  public func advice(source: String, classes: [String] = ["AutoModelForCausalLM", "AutoTokenizer"])
    -> String
  {
    let names = classes.joined(separator: ", ")
    let given = source.contains { "'\"\\$`".contains($0) } ? "SOURCE" : source
    func command(_ options: String = "") -> String {
      "python -c \"from transformers import \(names); "
        + "[c.from_pretrained('\(given)'\(options)).save_pretrained('FOLDER') for c in (\(names)\(classes.count == 1 ? "," : ""))]\", and give FOLDER as the model"
    }
    switch form {
    case .pickle:
      return
        "A pickle runs code of whoever made it. Convert it to safetensors where you trust it: \(command())."
    case .keras:
      return
        "That is TensorFlow's format (HDF5). transformers 4, beside TensorFlow, makes safetensors of it: \(command(", from_tf=True"))."
    case .flax:
      return
        "That is Flax's format. transformers 4, beside Flax, makes safetensors of it: \(command(", from_flax=True"))."
    case .gguf:
      return
        "That is llama.cpp's format, its weights mostly rounded. Look for the model that it was made of, which has safetensors; or let transformers, beside the "
        + "package gguf, make safetensors of it: \(command(", gguf_file='\(file)'"))."
    }
  }
}
