// OpenBLAS through its C interface. On Apple platforms PeatTensor imports Accelerate instead.
#include <cblas.h>

// LAPACK, which comes with OpenBLAS: singular values and vectors, in Fortran's calling convention.
void sgesdd_(
    const char *jobz, const int *m, const int *n, float *a, const int *lda, float *s, float *u,
    const int *ldu, float *vt, const int *ldvt, float *work, const int *lwork, int *iwork, int *info);

// LAPACK: the Cholesky factor of a symmetric matrix, and the inverse from it.
void spotrf_(const char *uplo, const int *n, float *a, const int *lda, int *info);
void spotri_(const char *uplo, const int *n, float *a, const int *lda, int *info);
