// What an app on a device needs, in one import: tensors, models, data, tuning, the client and its connection.
@_exported import PeatData
@_exported import PeatEmulation
@_exported import PeatEvaluation
@_exported import PeatFederation
@_exported import PeatGRPC
@_exported import PeatImages
@_exported import PeatModels
@_exported import PeatNN
@_exported import PeatSecurity
@_exported import PeatTensor
@_exported import PeatTokenizers
@_exported import PeatTuning
