/* What products.c and few_rows.c share: vectors of the types of GCC and Clang, and products of a few rows. */

#include <stdint.h>

/* Numbers in a register: GCC keeps vectors that are wider than one in memory, at a tenth of the speed. */
#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX__)
#define LANES 8
#else
#define LANES 4
#endif
/* Loads need not be aligned. */
typedef float floats __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t ints __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef uint32_t words __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef uint32_t pairs __attribute__((vector_size(4 * LANES), aligned(2), may_alias));
typedef float floats8 __attribute__((vector_size(32), aligned(4), may_alias));
typedef float floats4 __attribute__((vector_size(16), aligned(4), may_alias));

#define INLINE static inline __attribute__((always_inline))
/* Numbers that are loaded as one step. */
#define STEP (2 * LANES)

INLINE float sum(floats x) {
#if LANES == 4
  floats4 b = x;
#else
#if LANES == 8
  floats8 a = x;
#else
  floats8 a = ((floats8 *)&x)[0] + ((floats8 *)&x)[1];
#endif
  floats4 b = ((floats4 *)&a)[0] + ((floats4 *)&a)[1];
#endif
  return (b[0] + b[2]) + (b[1] + b[3]);
}

INLINE float widened(uint16_t x) {
  union { uint32_t bits; float value; } both = {(uint32_t)x << 16};
  return both.value;
}

/* STEP numbers of bfloat16: those at even places, and those at odd ones. */
INLINE void load_bf16(const uint16_t *from, floats *even, floats *odd) {
  pairs both = *(const pairs *)from;
  *even = (floats)(both << 16);
  *odd = (floats)(both & 0xffff0000u);
}

/* `count` numbers, each STEP of them as the even places and then the odd ones. */
static inline void part_even_and_odd(const float *x, float *parted, long count) {
  for (long j = 0; j < count; j += STEP)
    for (int i = 0; i < LANES; i++) {
      parted[j + i] = x[j + 2 * i];
      parted[j + LANES + i] = x[j + 2 * i + 1];
    }
}

/* A matrix [n, k]: native.py hands it over as numbers in this order.

   bits 16: rows of bfloat16. bits 8 and 4: tiles, as `pack` makes them, whose columns share a scale `group` by group;
   form: what else they share. rank: of what is added to it, B [n, rank] A [rank, k]; `a` is A in
   bfloat16, B lies with the tiles. */
typedef struct {
  const void *weights;
  long n, bits, group, form, rank;
  const uint16_t *a;
} Matrix;

void multiply(const float *x, const Matrix *const *matrices, long count, float *y, long m, long k, long width,
              int threads);
