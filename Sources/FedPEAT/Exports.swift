// The whole of FedPEAT in one import.
@_exported import FedPEATClient
@_exported import PeatControl
@_exported import PeatEdge
@_exported import PeatHub
@_exported import PeatMonitor
@_exported import PeatStore
