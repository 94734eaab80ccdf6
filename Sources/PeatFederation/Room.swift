import PeatTensor
