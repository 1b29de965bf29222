/* Products of a few rows with matrices in bfloat16, 8 or 4 bits.

   Weights are read once, in the order in which they lie in memory, and everything is computed in float32. A row comes
   out the same, bit by bit, however many rows are computed with it and by however many threads. native.py compiles this
   file. */

#include <stdlib.h>
#include <string.h>

#include "products.h"

/* Most rows that share one pass over weights in bfloat16, and in fewer bits. */
#define ROWS 8
#define FEW 4
/* Rows of a matrix that are one piece of work, and one tile. */
#define PIECE 32

/* ------------------------------------------------------------------------------------------------------- bfloat16 */

/* Rows `row` to `row + R` of the matrix times M rows of x, of which the first `count` are wanted. The next R rows are
   fetched meanwhile, one after the other: memory is slow for several streams at once. */
INLINE void product(const uint16_t *weights, long k, const float *x, long row, long count, int M, int R, float *y,
                    long width) {
  floats sums[ROWS][2] = {{{0}}};
  const uint16_t *next = weights + (row + R) * k;
  for (long i = 0; i < k; i += STEP) {
    floats first[2], second[2];
    for (int r = 0; r < R; r++) {
      if (R > 1) __builtin_prefetch(next + i * R + r * STEP);
      load_bf16(weights + (row + r) * k + i, first + r, second + r);
    }
    for (int m = 0; m < M; m++) {
      floats p = *(const floats *)(x + m * k + i), q = *(const floats *)(x + m * k + i + 16);
      for (int r = 0; r < R; r++) sums[m][r] += first[r] * p;
      for (int r = 0; r < R; r++) sums[m][r] += second[r] * q;
    }
  }
  for (int m = 0; m < count; m++)
    for (int r = 0; r < R; r++) y[m * width + row + r] = sum(sums[m][r]);
}

/* Rows `row` to `last` of the matrix times m rows of x; behind them lie rows up to the next case. */
static void products(const uint16_t *weights, long k, const float *x, long m, long row, long last, float *y,
                     long width) {
#define PAIRS(M) for (; row + 2 <= last; row += 2) product(weights, k, x, row, m, M, 2, y, width)
  switch (m) {
    case 1: break;
    case 2: PAIRS(2); break;
    case 3: PAIRS(3); break;
    case 4: PAIRS(4); break;
    case 5: PAIRS(5); break;
    case 6: PAIRS(6); break;
    default: PAIRS(8);
  }
  for (; row < last; row++)
    for (long i = 0; i < m; i++) product(weights, k, x + i * k, row, 1, 1, 1, y + i * width, width);
}

/* ---------------------------------------------------------------------------------------------------- 8 and 4 bits */

/* A tile holds 32 rows of a matrix: group by group of its columns their numbers, 32 scales and, where there are any, 32
   smallest numbers in float32; then column by column of B their 32 numbers in bfloat16, those of the first and of the
   second 16 rows by turns. A word holds 8 or 4 columns of a row, and two vectors of words the 32 rows. */
static long group_bytes(long bits, long group, long minimum) {
  return PIECE * (group * bits / 8 + 4 + 4 * minimum);
}

static long tile_bytes(long k, long bits, long group, long minimum, long rank) {
  return k / group * group_bytes(bits, group, minimum) + rank * PIECE * 2;
}

/* Tiles of a matrix [n, k] whose numbers, 0 to 2^bits - 1, stand for number * scale + smallest, or in 8 bits without
   smallest ones (number - 128) * scale. scale, smallest: [n, k / group]. b: [n, rank]. tiles: filled with 0 before. */
void pack(const uint8_t *numbers, const float *scale, const float *smallest, const uint16_t *b, uint8_t *tiles, long n,
          long k, long bits, long group, long rank) {
  long minimum = smallest != 0, columns = 32 / bits, groups = k / group;
  for (long row = 0; row < n; row++) {
    uint8_t *tile = tiles + row / PIECE * tile_bytes(k, bits, group, minimum, rank);
    long lane = row % PIECE;
    for (long g = 0; g < groups; g++) {
      uint32_t *at = (uint32_t *)tile;
      for (long i = 0; i < group; i += columns) {
        const uint8_t *from = numbers + row * k + g * group + i;
        uint32_t word = 0;
        for (long j = 0; j < columns; j++) word |= (uint32_t)from[j] << (bits * j);
        at[i / columns * PIECE + lane] = word;
      }
      float *scales = (float *)(at + group / columns * PIECE);
      scales[lane] = scale[row * groups + g];
      if (minimum) scales[PIECE + lane] = smallest[row * groups + g];
      tile += group_bytes(bits, group, minimum);
    }
    uint16_t *low = (uint16_t *)tile;
    for (long r = 0; r < rank; r++) low[r * PIECE + 2 * (lane % 16) + lane / 16] = b[row * rank + r];
  }
}

/* The 32 rows of a tile times M rows of x. sums: [M, k / group], those of x. low: [M, ...], A times x, its rows `step`
   numbers apart. A column's number becomes 1 + number / 2^bits, which takes two operations; the scale makes up for it. */
INLINE void tile_product(const uint8_t *at, const float *x, const float *sums, const float *low, long step, long k,
                         long rank, int M, int B, int G, int minimum, float *y) {
  const int columns = 32 / B, top = 23 - B;
  floats total[FEW][2] = {{{0}}};
  for (long g = 0; g < k / G; g++) {
    floats parts[FEW][2][2] = {{{{0}}}};
    for (int i = 0; i < G; i += columns, at += 2 * sizeof(words)) {
      words both[2] = {((const words *)at)[0], ((const words *)at)[1]};
      const float *from = x + g * G + i;
#pragma GCC unroll 8
      for (int j = 0; j < columns; j++)
#pragma GCC unroll 2
        for (int h = 0; h < 2; h++) {
          words moved = top >= B * j ? both[h] << (top - B * j) : both[h] >> (B * j - top);
          floats number = (floats)((moved & ((1u << B) - 1) << top) | 0x3f800000u);
#pragma GCC unroll 4
          for (int m = 0; m < M; m++) parts[m][h][j & 1] += number * from[m * k + j];
        }
    }
#pragma GCC unroll 2
    for (int h = 0; h < 2; h++) {
      floats scale = ((const floats *)at)[h] * (float)(1 << B);
      floats rest = minimum ? ((const floats *)at)[2 + h] - scale : scale * -1.5f;
#pragma GCC unroll 4
      for (int m = 0; m < M; m++) {
        total[m][h] += scale * (parts[m][h][0] + parts[m][h][1]);
        total[m][h] += rest * sums[m * (k / G) + g];
      }
    }
    at += (1 + minimum) * 2 * sizeof(floats);
  }
  for (long r = 0; r < rank; r++, at += sizeof(pairs)) {
    floats first, second;
    load_bf16((const uint16_t *)at, &first, &second);
    for (int m = 0; m < M; m++) total[m][0] += first * low[m * step + r], total[m][1] += second * low[m * step + r];
  }
  for (int m = 0; m < M; m++) ((floats *)(y + m * PIECE))[0] = total[m][0], ((floats *)(y + m * PIECE))[1] = total[m][1];
}

/* One tile of `w` times m rows of x: y [m, 32]. */
static void tile_products(const Matrix *w, long tile, const float *x, const float *sums, const float *low, long step,
                          long m, long k, float *y) {
  const uint8_t *at = (const uint8_t *)w->weights + tile * tile_bytes(k, w->bits, w->group, w->minimum, w->rank);
#define OF_ROWS(M, B, G, MINIMUM) \
  tile_product(at, x, sums, low, step, k, w->rank, M, B, G, MINIMUM, y); break
#define OF(B, G, MINIMUM) \
  switch (m < FEW ? m : FEW) { \
    case 1: OF_ROWS(1, B, G, MINIMUM); \
    case 2: OF_ROWS(2, B, G, MINIMUM); \
    case 3: OF_ROWS(3, B, G, MINIMUM); \
    default: OF_ROWS(4, B, G, MINIMUM); \
  }
  for (; m > 0; m -= FEW, x += FEW * k, sums += FEW * (k / w->group), low += FEW * step, y += FEW * PIECE) {
    if (w->bits == 4) { OF(4, 32, 1) }
    else if (w->minimum && w->group == 32) { OF(8, 32, 1) }
    else if (w->group == 32) { OF(8, 32, 0) }
    else if (w->minimum) { OF(8, 16, 1) }
    else { OF(8, 16, 0) }
  }
}

static void group_sums(const float *x, float *sums, long count, long group) {
  for (long i = 0; i < count; i += group, sums++) {
    floats all = *(const floats *)(x + i);
    if (group > 16) all += *(const floats *)(x + i + 16);
    *sums = sum(all);
  }
}

/* ------------------------------------------------------------------------------------------------------------ both */

/* y [m, width] = x [m, k] times matrices [n_i, k] transposed, side by side; k is a multiple of 32, m at most 8. */
void multiply(const float *x, const Matrix *const *matrices, long count, float *y, long m, long k, long width,
              int threads) {
  long pieces = 0, ranks = 0;
  for (long i = 0; i < count; i++) pieces += (matrices[i]->n + PIECE - 1) / PIECE, ranks += matrices[i]->rank;
  float *room = calloc(ROWS * k + m * (k / 32 + k / 16 + ranks) + 1, sizeof(float));
  float *parted = room, *by_32 = parted + ROWS * k, *by_16 = by_32 + m * (k / 32), *low = by_16 + m * (k / 16);
  part_even_and_odd(x, parted, m * k);
  group_sums(x, by_32, m * k, 32), group_sums(x, by_16, m * k, 16);
#pragma omp parallel num_threads(threads)
  {
    if (ranks) {
#pragma omp for schedule(static)
      for (long row = 0; row < ranks; row++) {
        long at = row, i = 0;
        for (; at >= matrices[i]->rank; i++) at -= matrices[i]->rank;
        products(matrices[i]->a, k, parted, m, at, at + 1, low + row - at, ranks);
      }
    }
#pragma omp for schedule(static)
    for (long piece = 0; piece < pieces; piece++) {
      long at = piece, i = 0, rows;
      float *to = y, *own = low, made[ROWS * PIECE];
      for (; at >= (rows = (matrices[i]->n + PIECE - 1) / PIECE); i++)
        at -= rows, to += matrices[i]->n, own += matrices[i]->rank;
      const Matrix *w = matrices[i];
      long first = at * PIECE, last = first + PIECE < w->n ? first + PIECE : w->n;
      if (w->bits == 16) products(w->weights, k, parted, m, first, last, to, width);
      else {
        tile_products(w, at, x, w->group == 16 ? by_16 : by_32, own, ranks, m, k, made);
        for (long j = 0; j < m; j++)
          memcpy(to + j * width + first, made + j * PIECE, (last - first) * sizeof(float));
      }
    }
  }
  free(room);
}
