// OpenBLAS through its C interface. On Apple platforms PeatTensor imports Accelerate instead.
#include <cblas.h>

// LAPACK, which comes with OpenBLAS: singular values and vectors, in Fortran's calling convention.
void sgesdd_(
    const char *jobz, const int *m, const int *n, float *a, const int *lda, float *s, float *u,
    const int *ldu, float *vt, const int *ldvt, float *work, const int *lwork, int *iwork, int *info);

// LAPACK: the Cholesky factor of a symmetric matrix, and the inverse from it.
void spotrf_(const char *uplo, const int *n, float *a, const int *lda, int *info);
void spotri_(const char *uplo, const int *n, float *a, const int *lda, int *info);

// The same in float64, and the orthogonal factor of a tall matrix: a QR factorisation, and products with its Q.
void dgesdd_(
    const char *jobz, const int *m, const int *n, double *a, const int *lda, double *s, double *u,
    const int *ldu, double *vt, const int *ldvt, double *work, const int *lwork, int *iwork, int *info);
void dgeqrf_(
    const int *m, const int *n, double *a, const int *lda, double *tau, double *work,
    const int *lwork, int *info);
void dormqr_(
    const char *side, const char *trans, const int *m, const int *n, const int *k, const double *a,
    const int *lda, const double *tau, double *c, const int *ldc, double *work, const int *lwork,
    int *info);
