/* Attention, norm, rotation and a whole layer for a few rows: what decoding is made of.

   Keys are read once, in the order in which they lie in memory, and everything is computed in float32. A row comes out
   the same, bit by bit, however many rows are computed with it and by however many threads. native.py compiles this
   file and calls it; it says what the arguments are.

   Plain C with the vector types of GCC and Clang; on processors with narrower registers these are split. */

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "products.h"

/* Most queries that share one pass over the keys, and keys whose attention is summed up as one piece. */
#define QUERIES 4
#define PIECE 256

/* ------------------------------------------------------------------------------------------------------ attention */

/* e^x to 2 units in the last place, 0 below -87. */
INLINE floats exponential(floats x) {
  ints keep = x > -87.0f;
  floats turns = x * 1.44269504f + 12582912.0f;
  ints power = (ints)turns << 23;
  turns -= 12582912.0f;
  floats r = x - turns * 0.693359375f + turns * 2.12194440e-4f;
  floats y = ((((1.98756915e-4f * r + 1.39819995e-3f) * r + 8.33345190e-3f) * r + 4.16657959e-2f) * r + 1.66666655e-1f);
  y = (y * r + 0.5f) * r * r + r + 1.0f;
  return (floats)(((ints)y + power) & keep);
}

/* The sums of LANES vectors, in their order. */
INLINE floats sums_of(const floats *x) {
#if LANES == 16 && (defined(__clang__) || __GNUC__ >= 12)
#define HALVES(a, b, ...) \
  (__builtin_shufflevector(a, b, __VA_ARGS__))
  floats by8[8], by4[4], by2[2];
  for (int i = 0; i < 8; i++)
    by8[i] = HALVES(x[2 * i], x[2 * i + 1], 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
             HALVES(x[2 * i], x[2 * i + 1], 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
  for (int i = 0; i < 4; i++)
    by4[i] = HALVES(by8[2 * i], by8[2 * i + 1], 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) +
             HALVES(by8[2 * i], by8[2 * i + 1], 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
  for (int i = 0; i < 2; i++)
    by2[i] = HALVES(by4[2 * i], by4[2 * i + 1], 0, 1, 4, 5, 8, 9, 12, 13, 16, 17, 20, 21, 24, 25, 28, 29) +
             HALVES(by4[2 * i], by4[2 * i + 1], 2, 3, 6, 7, 10, 11, 14, 15, 18, 19, 22, 23, 26, 27, 30, 31);
  return HALVES(by2[0], by2[1], 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30) +
         HALVES(by2[0], by2[1], 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
#else
  floats y;
  for (int i = 0; i < LANES; i++) y[i] = sum(x[i]);
  return y;
#endif
}

/* One run of keys and values of one head: rows of e numbers of bfloat16, one after the other. */
typedef struct {
  const uint16_t *keys, *values;
  long count;
  int windowed;                       /* whether the window and causality hide keys of it from a query */
  long shift;                         /* place of its first key, counted from that of the last run */
} Run;

/* Columns of the values [count, e], `steps` times STEP of them, weighted and summed for R queries. */
INLINE void weigh(const uint16_t *values, long count, long e, float weights[QUERIES][PIECE], int R, int steps,
                  float *out) {
  floats even[QUERIES][2] = {{{0}}}, odd[QUERIES][2] = {{{0}}};
  for (long j = 0; j < count; j++)
    for (int s = 0; s < steps; s++) {
      floats a, b;
      load_bf16(values + j * e + s * STEP, &a, &b);
      for (int r = 0; r < R; r++) even[r][s] += a * weights[r][j], odd[r][s] += b * weights[r][j];
    }
  for (int r = 0; r < R; r++, out += e + 2)
    for (int s = 0; s < steps; s++)
      for (int j = 0; j < LANES; j++)
        out[s * STEP + 2 * j] = even[r][s][j], out[s * STEP + 2 * j + 1] = odd[r][s][j];
}

/* What a piece of a run gives to a query: the largest score, the sum of the weights, and the weighted values [e]. */
INLINE void attend_piece(Run run, long first, long count, const float *queries, const long *own, int R, long e,
                         long window, float softcap, float *out) {
  float scores[QUERIES][PIECE] __attribute__((aligned(64)));
  for (long j = 0; j < count; j += LANES) {
    floats products[QUERIES][LANES];
    long last = count - j < LANES ? count - j : LANES;
    for (int r = 0; last < LANES && r < R; r++)
      for (long l = last; l < LANES; l++) products[r][l] = (floats){0};
    for (long l = 0; l < last; l++) {
      floats sums[QUERIES] = {{0}};
      const uint16_t *key = run.keys + (first + j + l) * e;
      for (long i = 0; i < e; i += STEP) {
        floats even, odd;
        load_bf16(key + i, &even, &odd);
        for (int r = 0; r < R; r++) sums[r] += even * *(const floats *)(queries + r * e + i);
        for (int r = 0; r < R; r++) sums[r] += odd * *(const floats *)(queries + r * e + i + LANES);
      }
      for (int r = 0; r < R; r++) products[r][l] = sums[r];
    }
    for (int r = 0; r < R; r++) *(floats *)(scores[r] + j) = sums_of(products[r]);
  }
  for (int r = 0; r < R; r++) {
    float *row = scores[r], largest = -INFINITY, *result = out + r * (e + 2);
    if (softcap > 0)
      for (long j = 0; j < count; j++) row[j] = softcap * tanhf(row[j] / softcap);
    if (run.windowed) {
      long place = run.shift + first, begin = own[r] + 1 - window - place, end = own[r] + 1 - place;
      for (long j = 0; j < count && j < begin; j++) row[j] = -INFINITY;
      for (long j = end > 0 ? end : 0; j < count; j++) row[j] = -INFINITY;
    }
    for (long j = count; j % LANES; j++) row[j] = -INFINITY;
    floats total = {0}, base = {0}, most = *(floats *)row;
    for (long j = LANES; j < count; j += LANES) {
      floats more = *(floats *)(row + j);
      ints larger = more > most;
      most = (floats)(((ints)more & larger) | ((ints)most & ~larger));
    }
    for (int l = 0; l < LANES; l++) largest = most[l] > largest ? most[l] : largest;
    base += largest == -INFINITY ? 0 : largest;
    for (long j = 0; j < count; j += LANES) {
      floats weight = exponential(*(floats *)(row + j) - base);
      *(floats *)(row + j) = weight;
      total += weight;
    }
    result[0] = largest, result[1] = sum(total);
  }
  long i = 0;
  for (; i + 2 * STEP <= e; i += 2 * STEP) weigh(run.values + first * e + i, count, e, scores, R, 2, out + 2 + i);
  for (; i < e; i += STEP) weigh(run.values + first * e + i, count, e, scores, R, 1, out + 2 + i);
}

/* Attention of n queries of b * hk * g heads over runs of keys and values. The last `num_windowed` of them, 1 or 2, are
   one after the other in the text and end with the queries' own keys: of them a query sees the last `window` keys up to
   its own. It sees all of the others.

   queries: float32, `query_steps` numbers from one batch row, head and query to the next; not scaled yet.
   runs: for each the addresses of its keys and values, its length, and the numbers from one batch row and one head of
   them to the next. out: float32 [b, n, hk * g, e]. */
void attend(const float *queries, const long *query_steps, const long *runs, long num_runs, long num_windowed, float *out, long b, long hk,
            long g, long n, long e, float scale, long window, float softcap, int threads) {
  long rows = g * n, num_pieces = 0;
  for (long p = 0; p < num_runs; p++) num_pieces += (runs[5 * p + 2] + PIECE - 1) / PIECE;
  long groups = (rows + QUERIES - 1) / QUERIES, size = rows * (e + 2);
  float *parted = malloc(b * hk * rows * e * sizeof(float)), *results = malloc(b * hk * num_pieces * size * sizeof(float));
  long *own = malloc(rows * sizeof(long));
  for (long r = 0; r < rows; r++) own[r] = runs[5 * (num_runs - 1) + 2] - n + r % n;
  for (long row = 0; row < b * hk * rows; row++) {
    long head = row / n % (hk * g);
    const float *from = queries + row / (hk * rows) * query_steps[0] + head * query_steps[1] + row % n * query_steps[2];
    part_even_and_odd(from, parted + row * e, e);
    for (long i = 0; i < e; i++) parted[row * e + i] *= scale;
  }
#pragma omp parallel for num_threads(threads) schedule(static)
  for (long task = 0; task < b * hk * num_pieces; task++) {
    long batch = task / (hk * num_pieces), head = task / num_pieces % hk, piece = task % num_pieces, p = 0;
    while (piece >= (runs[5 * p + 2] + PIECE - 1) / PIECE) piece -= (runs[5 * p++ + 2] + PIECE - 1) / PIECE;
    const long *at = runs + 5 * p, offset = batch * at[3] + head * at[4];
    Run run = {(const uint16_t *)at[0] + offset, (const uint16_t *)at[1] + offset, at[2],
               p >= num_runs - num_windowed, p == num_runs - 1 ? 0 : -at[2]};
    long first = piece * PIECE, count = run.count - first < PIECE ? run.count - first : PIECE;
    for (long group = 0; group < groups; group++) {
      long begin = group * QUERIES, left = rows - begin;
      const float *own_queries = parted + ((batch * hk + head) * rows + begin) * e;
      float *result = results + task * size + begin * (e + 2);
#define OF(R, E) attend_piece(run, first, count, own_queries, own + begin, R, E, window, softcap, result)
/* The usual width of a head is known to the compiler, so that the queries stay in registers. */
#define QUERIES_OF(R) if (e == 64) OF(R, 64); else OF(R, e)
      if (left >= 4) { QUERIES_OF(4); }
      else if (left == 3) { QUERIES_OF(3); }
      else if (left == 2) { QUERIES_OF(2); }
      else { QUERIES_OF(1); }
    }
  }
  for (long row = 0; row < b * hk * rows; row++) {
    long pair = row / rows, batch = row / (hk * rows), head = row / n % (hk * g);
    const float *first = results + pair * num_pieces * size + row % rows * (e + 2);
    float largest = -INFINITY, total = 0, *to = out + ((batch * n + row % n) * hk * g + head) * e;
    for (long piece = 0; piece < num_pieces; piece++)
      if (first[piece * size] > largest) largest = first[piece * size];
    for (long i = 0; i < e; i++) to[i] = 0;
    for (long piece = 0; piece < num_pieces; piece++) {
      const float *from = first + piece * size;
      float weight = expf(from[0] - largest);
      total += weight * from[1];
      for (long i = 0; i < e; i++) to[i] += weight * from[2 + i];
    }
    for (long i = 0; i < e; i++) to[i] /= total;
  }
  free(own), free(parted), free(results);
}

/* ----------------------------------------------------------------------------------------------- norm and rotation */

/* y [m, d]: rows of x by their root mean square, times `weight` + `added`; weight in bfloat16. */
void rms_norm(const float *x, const uint16_t *weight, float *y, long m, long d, float eps, float added) {
  for (long row = 0; row < m; row++, x += d, y += d) {
    floats squares = {0};
    float rest = 0;
    long i = 0;
    for (; i + LANES <= d; i += LANES) squares += *(const floats *)(x + i) * *(const floats *)(x + i);
    for (; i < d; i++) rest += x[i] * x[i];
    float factor = 1 / sqrtf((sum(squares) + rest) / d + eps);
    for (i = 0; i < d; i++) y[i] = x[i] * factor * (widened(weight[i]) + added);
  }
}

/* y [b, h, n, e] = x rotated: halves of the first 2 * planes numbers by cos and sin [b or 1, n, planes]. */
void rotate(const float *x, const long *steps, const float *cos, const float *sin, float *y, long b, long h, long n,
            long e, long planes, long angle_step) {
  for (long row = 0; row < b * h * n; row++, y += e) {
    long batch = row / (h * n), query = row % n, angle = batch * angle_step + query * planes;
    const float *from = x + batch * steps[0] + row / n % h * steps[1] + query * steps[2];
    for (long i = 0; i < planes; i++) {
      float a = from[i], c = from[planes + i];
      y[i] = a * cos[angle + i] - c * sin[angle + i];
      y[planes + i] = c * cos[angle + i] + a * sin[angle + i];
    }
    for (long i = 2 * planes; i < e; i++) y[i] = from[i];
  }
}

/* --------------------------------------------------------------------------------------------------- a whole layer */

/* What a layer is made of; addresses are 0 where it has none. native.py hands it over as numbers in this order. */
typedef struct {
  const Matrix *q, *k, *v, *o, *gate, *up, *down;
  const uint16_t *input_norm, *mlp_norm, *q_norm, *k_norm, *q_bias, *k_bias, *v_bias;
  const float *cos, *sin;
  uint16_t *keys, *values;            /* where those of these rows go, [b, hk, n, e] with the steps below */
  float *projected;                   /* room for queries, keys and values, not rotated; 0: they are not asked for */
  long batch_step, head_step;
  long b, n, d, hk, g, e, inner, planes, angle_step;
  long first_run, num_runs, num_windowed, window;
} Layer;

static uint16_t rounded(float x) {
  union { float value; uint32_t bits; } both = {x};
  if (x != x) return 0x7fc0;
  return (both.bits + 0x7fff + (both.bits >> 16 & 1)) >> 16;
}

/* Queries or keys of m rows, `width` numbers apart, as [b, heads, n, e]: with bias and norm, rotated. */
static void heads_of(float *x, const Layer *l, long heads, long width, const uint16_t *bias, const uint16_t *norm,
                     float eps, float added, float *y) {
  long steps[3] = {l->n * width, l->e, width};
  for (long row = 0; row < l->b * l->n; row++) {
    float *one = x + row * width;
    for (long i = 0; bias && i < heads * l->e; i++) one[i] += widened(bias[i]);
    if (norm) rms_norm(one, norm, one, heads, l->e, eps, added);
  }
  rotate(x, steps, l->cos, l->sin, y, l->b, heads, l->n, l->e, l->planes, l->angle_step);
}

static void keep(const float *from, const Layer *l, long batch_step, long head_step, long row_step, uint16_t *to) {
  for (long row = 0; row < l->b * l->hk * l->n; row++) {
    long batch = row / (l->hk * l->n), head = row / l->n % l->hk, i = row % l->n;
    const float *one = from + batch * batch_step + head * head_step + i * row_step;
    uint16_t *kept = to + batch * l->batch_step + head * l->head_step + i * l->e;
    for (long c = 0; c < l->e; c++) kept[c] = rounded(one[c]);
  }
}

/* gate [m, inner] becomes silu(gate) * up, in rows of 2 * inner and of inner numbers. */
static void activate(const float *x, long m, long inner, float *y) {
  for (long row = 0; row < m; row++)
    for (long i = 0; i < inner; i += LANES) {
      floats gate = *(const floats *)(x + 2 * row * inner + i), up = *(const floats *)(x + (2 * row + 1) * inner + i);
      ints negative = gate < 0;
      floats size = (floats)((ints)gate & 0x7fffffff), z = exponential(-size), one = (floats){0} + 1;
      floats part = (floats)(((ints)z & negative) | ((ints)one & ~negative));
      *(floats *)(y + row * inner + i) = gate * part / (1 + z) * up;
    }
}

/* x [b, n, d] becomes what the layer makes of it. `runs` as in `attend`, the last of which has room for the keys of x. */
static void read_layer(float *x, const Layer *l, const long *runs, float eps, float added, float scale, float softcap,
                       int threads) {
  long m = l->b * l->n, heads = l->hk * l->g, queries = heads * l->e, keys = l->hk * l->e, width = queries + 2 * keys;
  long wide = l->d > queries ? l->d : queries;
  float *room = malloc(m * (wide + width + queries + keys + 3 * l->inner) * sizeof(float));
  float *normed = room, *made = normed + m * wide, *rotated = made + m * width, *rotated_keys = rotated + m * queries;
  float *gated = rotated_keys + m * keys, *inner = gated + 2 * m * l->inner;
  float *projected = l->projected ? l->projected : made;
  rms_norm(x, l->input_norm, normed, m, l->d, eps, added);
  multiply(normed, &l->q, 3, projected, m, l->d, width, threads);
  heads_of(projected, l, heads, width, l->q_bias, l->q_norm, eps, added, rotated);
  heads_of(projected + queries, l, l->hk, width, l->k_bias, l->k_norm, eps, added, rotated_keys);
  float *values = projected + queries + keys;
  for (long row = 0; l->v_bias && row < m; row++)
    for (long i = 0; i < keys; i++) values[row * width + i] += widened(l->v_bias[i]);
  keep(rotated_keys, l, keys * l->n, l->n * l->e, l->e, l->keys);
  keep(values, l, l->n * width, l->e, width, l->values);
  long steps[3] = {heads * l->n * l->e, l->n * l->e, l->e};
  attend(rotated, steps, runs + 5 * l->first_run, l->num_runs, l->num_windowed, normed, l->b, l->hk, l->g, l->n, l->e,
         scale, l->window, softcap, threads);
  multiply(normed, &l->o, 1, made, m, queries, l->d, threads);
  for (long i = 0; i < m * l->d; i++) x[i] += made[i];
  rms_norm(x, l->mlp_norm, normed, m, l->d, eps, added);
  multiply(normed, &l->gate, 2, gated, m, l->d, 2 * l->inner, threads);
  activate(gated, m, l->inner, inner);
  multiply(inner, &l->down, 1, made, m, l->inner, l->d, threads);
  for (long i = 0; i < m * l->d; i++) x[i] += made[i];
  free(room);
}

/* One layer after the other. levels: gets what each makes of x; 0: nobody asks. */
void read_layers(float *x, const Layer *layers, long count, const long *runs, float eps, float added, float scale,
                 float softcap, float *levels, int threads) {
  for (long i = 0; i < count; i++) {
    long size = layers[i].b * layers[i].n * layers[i].d;
    read_layer(x, layers + i, runs, eps, added, scale, softcap, threads);
    if (levels) memcpy(levels + i * size, x, size * sizeof(float));
  }
}
