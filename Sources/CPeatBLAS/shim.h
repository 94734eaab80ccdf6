// OpenBLAS through its C interface. On Apple platforms PeatTensor imports Accelerate instead.
#include <cblas.h>
