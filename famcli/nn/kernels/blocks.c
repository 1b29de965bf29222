/* Attention, norm, rotation and gate of whole blocks of tokens in bfloat16, for processors that multiply pairs of bfloat16 (AVX-512 BF16).

   Scores never leave the cache: for some queries and some keys at a time they are made, weighted and summed up, and the
   largest score so far is kept with each query (Flash attention, arXiv 2205.14135). native.py compiles this file and
   calls it. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__AVX512BF16__) && defined(__AVX512BW__)
#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))
/* Queries of one tile, keys that are scored at once, and rows whose sums stay in registers. */
#define TILE 24
#define KEYS 256
#define ROWS 6
#define LANES 16
#define LOG2_E 1.44269504f
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
/* Keys that lie together in `pack`, and the widest head. */
#define BLOCK 64
#define MOST_WIDE 256

int has_blocks(void) { return 1; }

/* `rows` of pairs times columns of pairs, `vectors` times 16 columns: what both products of attention are.

   from: a row of pairs for each of ROWS. columns: [pairs, width]. sums: rows of 16 * vectors numbers are added to. */
INLINE void multiply_pairs(const uint32_t *const *from, const uint32_t *columns, long pairs, long width, int vectors,
                           __m512 sums[ROWS][4]) {
  for (long p = 0; p < pairs; p++) {
    __m512bh column[4];
    for (int v = 0; v < vectors; v++) column[v] = (__m512bh)_mm512_loadu_si512(columns + p * width + v * LANES);
    for (int r = 0; r < ROWS; r++) {
      __m512bh row = (__m512bh)_mm512_set1_epi32((int)from[r][p]);
      for (int v = 0; v < vectors; v++) sums[r][v] = _mm512_dpbf16_ps(sums[r][v], row, column[v]);
    }
  }
}

/* 2^x, to a ten-thousandth, which bfloat16 does not see; 0 below -200. */
INLINE __m512 power_of_two(__m512 x) {
  x = _mm512_max_ps(x, _mm512_set1_ps(-200.0f));
  __m512 whole = _mm512_roundscale_ps(x, 8);
  __m512 r = _mm512_sub_ps(x, whole);
  __m512 y = _mm512_fmadd_ps(r, _mm512_set1_ps(0.05517167f), _mm512_set1_ps(0.24261112f));
  y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(0.69326099f));
  y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(0.99992807f));
  return _mm512_scalef_ps(y, whole);
}

/* Keys and values of one head, as `pack` leaves them. */
typedef struct {
  const uint32_t *keys;               /* for each 64 keys: [e / 2 pairs, 64] */
  const uint32_t *values;             /* [pairs of keys, e] */
  long e, total, others;              /* all queries see the first `others` keys of `total` */
  float scale;                        /* of scores, which are powers of two */
} Head;

/* scores [count, KEYS] = queries times keys `first` to `first + seen`. */
INLINE void score(const Head *head, const uint16_t *queries, long query_step, long first, long seen, long count,
                  float *scores) {
  for (long row = 0; row < count; row += ROWS) {
    const uint32_t *from[ROWS];
    for (int r = 0; r < ROWS; r++)
      from[r] = (const uint32_t *)(queries + MIN(row + r, count - 1) * query_step);
    for (long block = 0; block < seen; block += BLOCK) {
      __m512 made[ROWS][4];
      for (int r = 0; r < ROWS; r++)
        for (int v = 0; v < 4; v++) made[r][v] = _mm512_setzero_ps();
      multiply_pairs(from, head->keys + (first + block) * (head->e / 2), head->e / 2, BLOCK, 4, made);
      for (int r = 0; r < ROWS; r++)
        for (int v = 0; v < 4; v++) _mm512_store_ps(scores + (row + r) * KEYS + block + v * LANES, made[r][v]);
    }
  }
}

/* weights [seen] of a query from its scores, relative to the largest so far, which it may raise: then all sums so far
   are to be multiplied by what it returns. */
INLINE float weigh(const float *scores, long seen, float scale, uint16_t *weights, float *largest, float *total) {
  __m512 most = _mm512_load_ps(scores), sum = _mm512_setzero_ps();
  for (long j = LANES; j < seen; j += LANES) most = _mm512_max_ps(most, _mm512_load_ps(scores + j));
  float found = _mm512_reduce_max_ps(most) * scale, before = *largest, now = found > before ? found : before;
  float factor = before == now ? 1 : exp2f(before - now);
  __m512 base = _mm512_set1_ps(now == -INFINITY ? 0 : -now), scales = _mm512_set1_ps(scale);
  for (long j = 0; j < seen; j += 2 * LANES) {
    __m512 a = power_of_two(_mm512_fmadd_ps(_mm512_load_ps(scores + j), scales, base));
    __m512 b = power_of_two(_mm512_fmadd_ps(_mm512_load_ps(scores + j + LANES), scales, base));
    sum = _mm512_add_ps(sum, _mm512_add_ps(a, b));
    _mm512_store_si512(weights + j, (__m512i)_mm512_cvtne2ps_pbh(b, a));
  }
  *largest = now;
  *total = *total * factor + _mm512_reduce_add_ps(sum);
  return factor;
}

/* 16 * vectors columns of sums [ROWS, e] by `factors`, plus weights times values. */
INLINE void add_values(const uint32_t *const *weights, const uint32_t *values, long pairs, long e, int vectors,
                       const float *factors, float *sums) {
  __m512 made[ROWS][4];
  for (int r = 0; r < ROWS; r++)
    for (int v = 0; v < vectors; v++)
      made[r][v] = _mm512_mul_ps(_mm512_load_ps(sums + r * e + v * LANES), _mm512_set1_ps(factors[r]));
  multiply_pairs(weights, values, pairs, e, vectors, made);
  for (int r = 0; r < ROWS; r++)
    for (int v = 0; v < vectors; v++) _mm512_store_ps(sums + r * e + v * LANES, made[r][v]);
}

/* `count` queries of one head. Of the keys that not all see the first sees `low` to `high`, and each further query one
   key later at both ends. out: rows [e], `out_step` apart. */
static void attend_tile(const Head *head, const uint16_t *queries, long query_step, long count, long low, long high,
                        uint16_t *out, long out_step) {
  float scores[TILE * KEYS] __attribute__((aligned(64))), sums[TILE * MOST_WIDE] __attribute__((aligned(64)));
  uint16_t weights[TILE * KEYS] __attribute__((aligned(64)));
  float largest[TILE], totals[TILE] = {0}, factors[TILE];
  long e = head->e, end = MIN(high + count - 1, head->total);
  memset(sums, 0, TILE * e * sizeof(float));
  for (long r = 0; r < TILE; r++) largest[r] = -INFINITY, factors[r] = 1;
  for (long first = 0; first < end; first += KEYS) {
    if (first >= head->others && first + KEYS <= low) continue;
    long seen = end - first < KEYS ? (end - first + BLOCK - 1) / BLOCK * BLOCK : KEYS;
    score(head, queries, query_step, first, seen, count, scores);
    for (long r = 0; r < count; r++) {
      float *row = scores + r * KEYS;
      long begin = MAX(first, head->others), stop = MIN(low + r, first + seen);
      for (long j = begin; j < stop; j++) row[j - first] = -INFINITY;
      for (long j = MAX(first, MIN(high + r, head->total)); j < first + seen; j++)
        row[j - first] = -INFINITY;
      factors[r] = weigh(row, seen, head->scale, weights + r * KEYS, largest + r, totals + r);
    }
    for (long row = 0; row < count; row += ROWS) {
      const uint32_t *from[ROWS];
      for (int r = 0; r < ROWS; r++)
        from[r] = (const uint32_t *)(weights + MIN(row + r, count - 1) * KEYS);
      const uint32_t *values = head->values + first / 2 * e;
      long c = 0;
      for (; c + 64 <= e; c += 64) add_values(from, values + c, seen / 2, e, 4, factors + row, sums + row * e + c);
      if (c < e) add_values(from, values + c, seen / 2, e, 2, factors + row, sums + row * e + c);
    }
  }
  for (long r = 0; r < count; r++) {
    __m512 share = _mm512_set1_ps(1 / totals[r]);
    for (long c = 0; c < e; c += 2 * LANES) {
      __m512 a = _mm512_mul_ps(_mm512_load_ps(sums + r * e + c), share);
      __m512 b = _mm512_mul_ps(_mm512_load_ps(sums + r * e + c + LANES), share);
      _mm512_storeu_si512(out + r * out_step + c, (__m512i)_mm512_cvtne2ps_pbh(b, a));
    }
  }
}

/* BLOCK keys from `first` on, which may lie in several runs, and their values, as pairs; what is behind the last is 0. */
static void pack(const long *runs, long num_runs, long batch, long key_head, long first, long e, uint32_t *keys,
                 uint32_t *values) {
  static const uint16_t zeros[MOST_WIDE];
  const uint16_t *value[BLOCK];
  const long *at = runs;
  long place = first;
  for (; num_runs && place >= at[2]; num_runs--, at += 9) place -= at[2];
  for (long j = 0; j < BLOCK; j++, place++) {
    while (num_runs && place >= at[2]) place -= at[2], num_runs--, at += 9;
    const uint32_t *key = (const uint32_t *)zeros;
    value[j] = zeros;
    if (num_runs) {
      key = (const uint32_t *)((const uint16_t *)at[0] + batch * at[3] + key_head * at[4] + place * at[5]);
      value[j] = (const uint16_t *)at[1] + batch * at[6] + key_head * at[7] + place * at[8];
    }
    for (long p = 0; p < e / 2; p++) keys[p * BLOCK + j] = key[p];
  }
  for (long j = 0; j < BLOCK; j += 2)
    for (long c = 0; c < e; c++) values[j / 2 * e + c] = value[j][c] | (uint32_t)value[j + 1][c] << 16;
}

/* Attention of n queries of b * hk * g heads over runs of keys and values, all in bfloat16.

   The last `own` keys are causal, n - own of them before the first query's own; of them a query sees the last `window`
   up to its own. own = 0: all queries see all keys.

   queries, steps: where they lie, and the numbers from one batch row, head and query to the next. runs: for each the
   addresses of its keys and values, its length, and the steps of its keys and of its values, as those of the queries;
   no run is empty. e: a multiple of 32, at most 256. out: [b, n, hk * g, e]. Returns 0 where memory ran out. */
int attend_blocks(const uint16_t *queries, const long *steps, const long *runs, long num_runs, uint16_t *out, long b,
                  long hk, long g, long n, long e, long own, long window, float scale, int threads) {
  long total = 0;
  for (long p = 0; p < num_runs; p++) total += runs[9 * p + 2];
  long padded = (total + BLOCK - 1) / BLOCK * BLOCK, size = padded * (e / 2), tiles = (n + TILE - 1) / TILE;
  uint32_t *packed = aligned_alloc(64, 2 * b * hk * size * sizeof(uint32_t));
  if (!packed) return 0;
#pragma omp parallel num_threads(threads)
  {
#pragma omp for schedule(static)
    for (long task = 0; task < b * hk * (padded / BLOCK); task++) {
      long pair = task / (padded / BLOCK), block = task % (padded / BLOCK);
      uint32_t *to = packed + 2 * pair * size + block * BLOCK * (e / 2);
      pack(runs, num_runs, pair / hk, pair % hk, block * BLOCK, e, to, to + size);
    }
#pragma omp for schedule(dynamic)
    for (long task = 0; task < b * hk * g * tiles; task++) {
      /* The last tiles see the most keys: they begin first. */
      long row = task / tiles, i = (tiles - 1 - task % tiles) * TILE, batch = row / (hk * g), one = row % (hk * g);
      const uint32_t *keys = packed + 2 * (batch * hk + one / g) * size;
      Head head = {keys, keys + size, e, total, total - own, scale * LOG2_E};
      long high = own ? total - n + i + 1 : total, low = own ? high - window : 0;
      const uint16_t *from = queries + batch * steps[0] + one * steps[1] + i * steps[2];
      uint16_t *to = out + ((batch * n + i) * hk * g + one) * e;
      attend_tile(&head, from, steps[2], MIN(TILE, n - i), low, high, to, hk * g * e);
    }
  }
  free(packed);
  return 1;
}

INLINE __m512 load(const uint16_t *from) {
  __m256i narrow = _mm256_loadu_si256((const __m256i *)from);
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(narrow), 16));
}

INLINE void store(uint16_t *to, __m512 x) { _mm256_storeu_si256((__m256i *)to, (__m256i)_mm512_cvtneps_pbh(x)); }

/* y [m, d]: rows of x by their root mean square, times weight + added. d is a multiple of 16, here and below. */
void norm_blocks(const uint16_t *x, const uint16_t *weight, uint16_t *y, long m, long d, float eps, float added,
                 int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (long row = 0; row < m; row++) {
    __m512 squares = _mm512_setzero_ps();
    for (long i = 0; i < d; i += LANES) {
      __m512 part = load(x + row * d + i);
      squares = _mm512_fmadd_ps(part, part, squares);
    }
    __m512 factor = _mm512_set1_ps(1 / sqrtf(_mm512_reduce_add_ps(squares) / d + eps)), more = _mm512_set1_ps(added);
    for (long i = 0; i < d; i += LANES) {
      __m512 scale = _mm512_mul_ps(factor, _mm512_add_ps(load(weight + i), more));
      store(y + row * d + i, _mm512_mul_ps(load(x + row * d + i), scale));
    }
  }
}

/* y [m, d] = silu(gate) * up, both in rows that are `step` numbers apart. */
void gate_blocks(const uint16_t *gate, const uint16_t *up, long step, uint16_t *y, long m, long d, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (long row = 0; row < m; row++)
    for (long i = 0; i < d; i += LANES) {
      __m512 x = load(gate + row * step + i), one = _mm512_set1_ps(1);
      __m512 z = power_of_two(_mm512_mul_ps(x, _mm512_set1_ps(-LOG2_E)));
      store(y + row * d + i, _mm512_mul_ps(_mm512_div_ps(x, _mm512_add_ps(one, z)), load(up + row * step + i)));
    }
}

/* y [b, h, n, 2 * planes] = x rotated: halves by cos and sin [b or 1, n, planes]. steps as in `attend_blocks`. */
void rotate_blocks(const uint16_t *x, const long *steps, const uint16_t *cos, const uint16_t *sin, uint16_t *y, long b,
                   long h, long n, long planes, long angle_step, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (long row = 0; row < b * h * n; row++) {
    long batch = row / (h * n), i = row % n, angle = batch * angle_step + i * planes;
    const uint16_t *from = x + batch * steps[0] + row / n % h * steps[1] + i * steps[2];
    uint16_t *to = y + row * 2 * planes;
    for (long c = 0; c < planes; c += LANES) {
      __m512 first = load(from + c), second = load(from + planes + c), p = load(cos + angle + c), q = load(sin + angle + c);
      store(to + c, _mm512_fmsub_ps(first, p, _mm512_mul_ps(second, q)));
      store(to + planes + c, _mm512_fmadd_ps(second, p, _mm512_mul_ps(first, q)));
    }
  }
}

#else

int has_blocks(void) { return 0; }
int attend_blocks() { return 0; }
void norm_blocks() {}
void gate_blocks() {}
void rotate_blocks() {}

#endif
