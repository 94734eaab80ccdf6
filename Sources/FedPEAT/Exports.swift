// The whole of FedPEAT in one import.
@_exported import FedPEATClient
