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
#define VECTORS (PIECE / LANES)

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
      floats p = *(const floats *)(x + m * k + i), q = *(const floats *)(x + m * k + i + LANES);
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

/* What a number stands for: (number - 128) * scale; number * scale + smallest; (number - 8) * scale + zero. */
enum { SCALED, WITH_SMALLEST, WITH_ZERO };

/* A tile holds 32 rows of a matrix: group by group of its columns their numbers, 32 scales and, where there are any, 32
   smallest numbers in float32, or scales and zeros in bfloat16; then column by column of B their 32 numbers in bfloat16.
   In bfloat16 those of the rows of one vector and of the next lie by turns. A word holds 8 or 4 columns of a row, and
   VECTORS vectors of words the 32 rows. */
static long group_bytes(long bits, long group, long form) {
  return PIECE * (group * bits / 8 + (form == WITH_SMALLEST ? 8 : 4));
}

static long tile_bytes(long k, long bits, long group, long form, long rank) {
  return k / group * group_bytes(bits, group, form) + rank * PIECE * 2;
}

static uint16_t *by_turns(void *from, long lane) {
  return (uint16_t *)from + lane / STEP * STEP + 2 * (lane % LANES) + lane / LANES % 2;
}

static uint16_t upper_half(float x) {
  union { float value; uint32_t bits; } both = {x};
  return both.bits >> 16;
}

/* Tiles of a matrix [n, k] of numbers from 0 to 2^bits - 1. scale, other: [n, k / group], what else its form has; with
   zeros both are numbers of bfloat16. b: [n, rank]. tiles: filled with 0 before. */
void pack(const uint8_t *numbers, const float *scale, const float *other, const uint16_t *b, uint8_t *tiles, long n,
          long k, long bits, long group, long form, long rank) {
  long columns = 32 / bits, groups = k / group;
  for (long row = 0; row < n; row++) {
    uint8_t *tile = tiles + row / PIECE * tile_bytes(k, bits, group, form, rank);
    long lane = row % PIECE;
    for (long g = 0; g < groups; g++, scale++) {
      uint32_t *at = (uint32_t *)tile;
      for (long i = 0; i < group; i += columns) {
        const uint8_t *from = numbers + row * k + g * group + i;
        uint32_t word = 0;
        for (long j = 0; j < columns; j++) word |= (uint32_t)from[j] << (bits * j);
        at[i / columns * PIECE + lane] = word;
      }
      float *scales = (float *)(at + group / columns * PIECE);
      if (form == WITH_ZERO) {
        *by_turns(scales, lane) = upper_half(*scale);
        *by_turns((uint16_t *)scales + PIECE, lane) = upper_half(*other++);
      } else scales[lane] = *scale;
      if (form == WITH_SMALLEST) scales[PIECE + lane] = *other++;
      tile += group_bytes(bits, group, form);
    }
    for (long r = 0; r < rank; r++) *by_turns((uint16_t *)tile + r * PIECE, lane) = b[row * rank + r];
  }
}

/* The numbers of `count` rows of a matrix in tiles, without what is added to it: out [count, k]. */
void unpack(const Matrix *w, const long *rows, long count, float *out, long k, int threads) {
  long columns = 32 / w->bits, bytes = group_bytes(w->bits, w->group, w->form);
#pragma omp parallel for num_threads(threads) schedule(static)
  for (long i = 0; i < count; i++) {
    long lane = rows[i] % PIECE;
    uint8_t *at = (uint8_t *)w->weights + rows[i] / PIECE * tile_bytes(k, w->bits, w->group, w->form, w->rank);
    float *to = out + i * k;
    for (long g = 0; g < k / w->group; g++, at += bytes) {
      const uint32_t *words = (const uint32_t *)at + lane;
      float *scales = (float *)(at + w->group * w->bits / 8 * PIECE), scale = scales[lane], first = 128, rest = 0;
      if (w->form == WITH_SMALLEST) first = 0, rest = scales[PIECE + lane];
      if (w->form == WITH_ZERO) {
        first = 8, scale = widened(*by_turns(scales, lane));
        rest = widened(*by_turns((uint16_t *)scales + PIECE, lane));
      }
      for (long c = 0; c < w->group; c += columns, words += PIECE)
        for (long j = 0; j < columns; j++)
          *to++ = ((float)(*words >> (w->bits * j) & ((1u << w->bits) - 1)) - first) * scale + rest;
    }
  }
}

/* The 32 rows of a tile times M rows of x. sums: [M, k / group], those of x. low: [M, ...], A times x, its rows `step`
   numbers apart. A column's number becomes 1 + number / 2^bits, which takes two operations; the scale makes up for it. */
INLINE void tile_product(const uint8_t *at, const float *x, const float *sums, const float *low, long step, long k,
                         long rank, int M, int B, int G, int form, float *y) {
  const int columns = 32 / B, top = 23 - B;
  floats total[FEW][VECTORS] = {{{0}}};
  for (long g = 0; g < k / G; g++) {
    floats parts[FEW][VECTORS][2] = {{{{0}}}};
    for (int i = 0; i < G; i += columns, at += VECTORS * sizeof(words)) {
      words all[VECTORS];
      for (int h = 0; h < VECTORS; h++) all[h] = ((const words *)at)[h];
      const float *from = x + g * G + i;
#pragma GCC unroll 8
      for (int j = 0; j < columns; j++)
#pragma GCC unroll 8
        for (int h = 0; h < VECTORS; h++) {
          words moved = top >= B * j ? all[h] << (top - B * j) : all[h] >> (B * j - top);
          floats number = (floats)((moved & ((1u << B) - 1) << top) | 0x3f800000u);
#pragma GCC unroll 4
          for (int m = 0; m < M; m++) parts[m][h][j & 1] += number * from[m * k + j];
        }
    }
    floats scales[VECTORS], others[VECTORS] = {{0}};
    for (int h = 0; h < VECTORS; h++)
      if (form == WITH_ZERO && h % 2 == 0) {
        load_bf16((const uint16_t *)at + h * LANES, scales + h, scales + h + 1);
        load_bf16((const uint16_t *)at + PIECE + h * LANES, others + h, others + h + 1);
      } else if (form != WITH_ZERO) {
        scales[h] = ((const floats *)at)[h];
        if (form == WITH_SMALLEST) others[h] = ((const floats *)at)[VECTORS + h];
      }
#pragma GCC unroll 8
    for (int h = 0; h < VECTORS; h++) {
      floats scale = scales[h] * (float)(1 << B), rest = others[h] - scale * (form == WITH_SMALLEST ? 1.0f : 1.5f);
#pragma GCC unroll 4
      for (int m = 0; m < M; m++) {
        total[m][h] += scale * (parts[m][h][0] + parts[m][h][1]);
        total[m][h] += rest * sums[m * (k / G) + g];
      }
    }
    at += PIECE * (form == WITH_SMALLEST ? 8 : 4);
  }
  for (long r = 0; r < rank; r++, at += PIECE * 2)
    for (int h = 0; h < VECTORS; h += 2) {
      floats first, second;
      load_bf16((const uint16_t *)at + h * LANES, &first, &second);
      for (int m = 0; m < M; m++) {
        total[m][h] += first * low[m * step + r];
        total[m][h + 1] += second * low[m * step + r];
      }
    }
  for (int m = 0; m < M; m++)
    for (int h = 0; h < VECTORS; h++) ((floats *)(y + m * PIECE))[h] = total[m][h];
}

/* One tile of `w` times m rows of x: y [m, 32]. */
static void tile_products(const Matrix *w, long tile, const float *x, const float *sums, const float *low, long step,
                          long m, long k, float *y) {
  const uint8_t *at = (const uint8_t *)w->weights + tile * tile_bytes(k, w->bits, w->group, w->form, w->rank);
#define OF_ROWS(M, B, G, FORM) \
  tile_product(at, x, sums, low, step, k, w->rank, M, B, G, FORM, y); break
#define OF(B, G, FORM) \
  switch (m < FEW ? m : FEW) { \
    case 1: OF_ROWS(1, B, G, FORM); \
    case 2: OF_ROWS(2, B, G, FORM); \
    case 3: OF_ROWS(3, B, G, FORM); \
    default: OF_ROWS(4, B, G, FORM); \
  }
  for (; m > 0; m -= FEW, x += FEW * k, sums += FEW * (k / w->group), low += FEW * step, y += FEW * PIECE) {
    if (w->form == WITH_ZERO) { OF(4, 32, WITH_ZERO) }
    else if (w->bits == 4) { OF(4, 32, WITH_SMALLEST) }
    else if (w->form == WITH_SMALLEST) { OF(8, w->group, WITH_SMALLEST) }
    else { OF(8, w->group, SCALED) }
  }
}

/* Sums of each `group` of `count` numbers, a multiple of 16. */
static void group_sums(const float *x, float *sums, long count, long group) {
  for (long i = 0; i < count; i += group) {
    floats all = *(const floats *)(x + i);
    for (long j = LANES; j < group; j += LANES) all += *(const floats *)(x + i + j);
    *sums++ = sum(all);
  }
}

/* ------------------------------------------------------------------------------------------------------------ both */

/* y [m, width] = x [m, k] times matrices [n_i, k] transposed, side by side; k is a multiple of 32, m at most 8. */
void multiply(const float *x, const Matrix *const *matrices, long count, float *y, long m, long k, long width,
              int threads) {
  long pieces = 0, ranks = 0;
  for (long i = 0; i < count; i++) pieces += (matrices[i]->n + PIECE - 1) / PIECE, ranks += matrices[i]->rank;
  float *room = calloc(ROWS * k + m * (1 + k / 32 + k / 16 + ranks), sizeof(float));
  float *parted = room, *by_32 = parted + ROWS * k, *by_16 = by_32 + m * (k / 32), *by_row = by_16 + m * (k / 16);
  float *low = by_row + m;
  part_even_and_odd(x, parted, m * k);
  group_sums(x, by_32, m * k, 32), group_sums(x, by_16, m * k, 16), group_sums(x, by_row, m * k, k);
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
        const float *sums = w->group == k ? by_row : w->group == 16 ? by_16 : by_32;
        tile_products(w, at, x, sums, own, ranks, m, k, made);
        for (long j = 0; j < m; j++)
          memcpy(to + j * width + first, made + j * PIECE, (last - first) * sizeof(float));
      }
    }
  }
  free(room);
}
