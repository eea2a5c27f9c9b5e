/* The parts of a network, as the browser runs them: 128-bit SIMD of WebAssembly.

   Maps of features are float32 with the channels of a pixel side by side [height][width][channels]. A `row` is the distance
   of two rows in floats, which is more than width * channels where zeros or other pixels lie around a map. The number of
   channels is a multiple of 4. Every kernel makes the rows from `from` up to `to` of its result, so that threads share it.

   build.py compiles this, with fused multiplication and addition (relaxed SIMD) and without. */
#include <wasm_simd128.h>

#define KERNEL __attribute__((visibility("default")))
#define INLINE static inline __attribute__((always_inline))

typedef unsigned char byte;

#ifdef __wasm_relaxed_simd__
#define MULTIPLY_ADD(a, b, sum) wasm_f32x4_relaxed_madd(a, b, sum)
#else
#define MULTIPLY_ADD(a, b, sum) wasm_f32x4_add(sum, wasm_f32x4_mul(a, b))
#endif

enum { TILE = 4 };  /* pixels that are computed at a time: with 8 channels, what 16 registers hold */

INLINE v128_t zero_or_more(v128_t x) { return wasm_f32x4_pmax(wasm_f32x4_splat(0), x); }

/* `pixels` pixels and 4 * `vectors` channels of a convolution. x: the first tap of the first pixel, the next pixel is `step`
   on. taps: of one row of the filter, times input channels. w: [rows of the filter][taps][4 * vectors]. */
INLINE void tile(const int pixels, const int vectors, const float *x, int row, int step, int k, int taps, const float *w,
                 const float *bias, const float *add, float *y, int channels, int relu) {
  v128_t sum[TILE][3];
  for (int p = 0; p < pixels; p++)
    for (int v = 0; v < vectors; v++) sum[p][v] = wasm_v128_load(bias + 4 * v);
  for (int ky = 0; ky < k; ky++, x += row) {
    const float *at[TILE];
    for (int p = 0; p < pixels; p++) at[p] = x + p * step;
    for (const float *end = x + taps; at[0] < end; w += 4 * vectors) {
      v128_t weight[3];
      for (int v = 0; v < vectors; v++) weight[v] = wasm_v128_load(w + 4 * v);
      for (int p = 0; p < pixels; p++) {
        const v128_t value = wasm_v128_load32_splat(at[p]++);
        for (int v = 0; v < vectors; v++) sum[p][v] = MULTIPLY_ADD(value, weight[v], sum[p][v]);
      }
    }
  }
  for (int p = 0; p < pixels; p++)
    for (int v = 0; v < vectors; v++) {
      const int at = p * channels + 4 * v;
      v128_t value = sum[p][v];
      if (add) value = wasm_f32x4_add(value, wasm_v128_load(add + at));
      wasm_v128_store(y + at, relu ? zero_or_more(value) : value);
    }
}

/* `pixels` pixels of a convolution, all channels. w: blocks of 4 * `vectors` channels, and one of 4 where those are left. */
INLINE void pixels_of(const int pixels, const int vectors, const float *x, int row, int step, int k, int taps, const float *w,
                      const float *bias, const float *add, float *y, int channels, int relu) {
  int c = 0;
  for (; c + 4 * vectors <= channels; c += 4 * vectors, w += 4 * vectors * k * taps)
    tile(pixels, vectors, x, row, step, k, taps, w, bias + c, add ? add + c : 0, y + c, channels, relu);
  if (c < channels) tile(pixels, 1, x, row, step, k, taps, w, bias + c, add ? add + c : 0, y + c, channels, relu);
}

/* `width` pixels of one row of a convolution, `pixels` at a time. Where they are not a multiple, the last are computed twice. */
INLINE void line(const int pixels, const int vectors, const float *x, int row, int step, int k, int taps, const float *w,
                 const float *bias, const float *add, float *y, int width, int channels, int relu) {
  int p = 0;
  if (width >= pixels)
    for (; p < width; p += pixels) {
      if (p > width - pixels) p = width - pixels;
      pixels_of(pixels, vectors, x + p * step, row, step, k, taps, w, bias, add ? add + p * channels : 0, y + p * channels,
                channels, relu);
    }
  for (; p < width; p++)
    pixels_of(1, vectors, x + p * step, row, step, k, taps, w, bias, add ? add + p * channels : 0, y + p * channels, channels,
              relu);
}

/* y = convolution of x with k x k taps, plus bias, plus `add` where it is given. x: the tap at the top left of result (0, 0). */
KERNEL void convolve(const float *x, int row, int inputs, int k, int stride, const float *w, const float *bias, const float *add,
                     int add_row, float *y, int y_row, int width, int channels, int relu, int from, int to) {
  for (int i = from; i < to; i++) {
    const float *first = x + i * stride * row, *plus = add ? add + i * add_row : 0;
    if (channels == 12) /* the last convolution of a network */
      line(3, 3, first, row, stride * inputs, k, k * inputs, w, bias, plus, y + i * y_row, width, channels, relu);
    else
      line(TILE, 2, first, row, stride * inputs, k, k * inputs, w, bias, plus, y + i * y_row, width, channels, relu);
  }
}

/* y = x spread to `hidden` channels, ReLU, brought back to `channels`, plus `add`: two convolutions of 1x1 without the map between
   them. between: room for CHUNK pixels of it for each row. */
enum { CHUNK = 32 };

KERNEL void expand(const float *x, int row, int inputs, const float *w, const float *bias, float *between, int hidden,
                   const float *w2, const float *bias2, const float *add, int add_row, float *y, int y_row, int width, int channels,
                   int relu, int from, int to) {
  for (int i = from; i < to; i++) {
    float *own = between + from * CHUNK * hidden; /* another thread has another first row */
    for (int p = 0; p < width; p += CHUNK) {
      const int count = width - p < CHUNK ? width - p : CHUNK;
      line(TILE, 2, x + i * row + p * inputs, 0, inputs, 1, inputs, w, bias, 0, own, count, hidden, 1);
      line(TILE, 2, own, 0, hidden, 1, hidden, w2, bias2, add ? add + i * add_row + p * channels : 0, y + i * y_row + p * channels, count,
           channels, relu);
    }
  }
}

/* 4 channels of `pixels` pixels of a depthwise convolution. w: [k * k][channels] */
INLINE void taps_of(const int pixels, const float *x, int row, int k, const float *w, v128_t bias, float *y, int channels, int relu) {
  v128_t sum[TILE];
  for (int p = 0; p < pixels; p++) sum[p] = bias;
  for (int ky = 0; ky < k; ky++, x += row)
    for (int kx = 0; kx < k; kx++, w += channels) {
      const v128_t weight = wasm_v128_load(w);
      for (int p = 0; p < pixels; p++)
        sum[p] = MULTIPLY_ADD(weight, wasm_v128_load(x + (p + kx) * channels), sum[p]);
    }
  for (int p = 0; p < pixels; p++) wasm_v128_store(y + p * channels, relu ? zero_or_more(sum[p]) : sum[p]);
}

/* y = convolution of each channel of x with k x k taps of its own, plus bias. */
KERNEL void depthwise(const float *x, int row, int k, const float *w, const float *bias, float *y, int y_row, int width,
                      int channels, int relu, int from, int to) {
  for (int i = from; i < to; i++)
    for (int c = 0; c < channels; c += 4) {
      const float *xs = x + i * row + c;
      float *ys = y + i * y_row + c;
      const v128_t b = wasm_v128_load(bias + c);
      int p = 0;
      if (width >= TILE)
        for (; p < width; p += TILE) {
          if (p > width - TILE) p = width - TILE;
          taps_of(TILE, xs + p * channels, row, k, w + c, b, ys + p * channels, channels, relu);
        }
      for (; p < width; p++) taps_of(1, xs + p * channels, row, k, w + c, b, ys + p * channels, channels, relu);
    }
}

/* Of each row the sums of each channel, and those of its squares. sums: [rows][2][channels] */
KERNEL void moments(const float *x, int row, int width, int channels, float *sums, int from, int to) {
  for (int i = from; i < to; i++)
    for (int c = 0; c < channels; c += 4) {
      v128_t sum = wasm_f32x4_splat(0), squares = sum;
      const float *at = x + i * row + c;
      for (int p = 0; p < width; p++, at += channels) {
        const v128_t value = wasm_v128_load(at);
        sum = wasm_f32x4_add(sum, value);
        squares = MULTIPLY_ADD(value, value, squares);
      }
      wasm_v128_store(sums + 2 * i * channels + c, sum);
      wasm_v128_store(sums + (2 * i + 1) * channels + c, squares);
    }
}

INLINE double total(const float *sums, int rows, int distance) {
  double sum = 0;
  for (int i = 0; i < rows; i++) sum += sums[i * distance];
  return sum;
}

/* What an instance normalization multiplies each channel by, and then adds. scaling: [2][channels]. Rows here are channels. */
KERNEL void settle(const float *sums, int rows, int count, int channels, const float *gamma, const float *beta, float epsilon,
                   float *scaling, int from, int to) {
  for (int c = from; c < to; c++) {
    const double mean = total(sums + c, rows, 2 * channels) / count;
    const double variance = total(sums + channels + c, rows, 2 * channels) / count - mean * mean;
    const double scale = gamma[c] / __builtin_sqrt((variance > 0 ? variance : 0) + epsilon);
    scaling[c] = scale;
    scaling[channels + c] = beta[c] - mean * scale;
  }
}

/* x = x * scale + shift, and a ReLU of it. */
KERNEL void scale(float *x, int row, int width, int channels, const float *scaling, int relu, int from, int to) {
  for (int i = from; i < to; i++)
    for (int c = 0; c < channels; c += 4) {
      const v128_t factor = wasm_v128_load(scaling + c), shift = wasm_v128_load(scaling + channels + c);
      float *at = x + i * row + c;
      for (int p = 0; p < width; p++, at += channels) {
        const v128_t value = MULTIPLY_ADD(wasm_v128_load(at), factor, shift);
        wasm_v128_store(at, relu ? zero_or_more(value) : value);
      }
    }
}

/* y = x at twice the size, bilinear with half-pixel centres, plus `add`. height, width: of x; rows are those of y. */
KERNEL void enlarge(const float *x, int row, int height, int width, int channels, const float *add, int add_row, float *y,
                    int y_row, int from, int to) {
  const v128_t near = wasm_f32x4_splat(0.75f), far = wasm_f32x4_splat(0.25f);
  for (int i = from; i < to; i++) {
    const int first = i / 2, other = i & 1 ? first + 1 : first - 1;
    const float *a = x + first * row, *b = x + (other < 0 ? 0 : other >= height ? height - 1 : other) * row;
    for (int c = 0; c < channels; c += 4) {
      const float *plus = add + i * add_row + c;
      float *to_y = y + i * y_row + c;
      v128_t now = MULTIPLY_ADD(wasm_v128_load(a + c), near, wasm_f32x4_mul(wasm_v128_load(b + c), far)), before = now;
      for (int p = 0; p < width; p++) {
        const int at = (p + 1 < width ? p + 1 : p) * channels + c;
        const v128_t after = MULTIPLY_ADD(wasm_v128_load(a + at), near, wasm_f32x4_mul(wasm_v128_load(b + at), far));
        const v128_t most = wasm_f32x4_mul(now, near);
        wasm_v128_store(to_y, wasm_f32x4_add(MULTIPLY_ADD(before, far, most), wasm_v128_load(plus)));
        wasm_v128_store(to_y + channels, wasm_f32x4_add(MULTIPLY_ADD(after, far, most), wasm_v128_load(plus + channels)));
        before = now, now = after, to_y += 2 * channels, plus += 2 * channels;
      }
    }
  }
}

/* y[i][j] = x[rows[i]][columns[j]] */
KERNEL void gather(const float *x, int row, const int *rows, const int *columns, float *y, int y_row, int width, int channels,
                   int from, int to) {
  for (int i = from; i < to; i++)
    for (int j = 0; j < width; j++) {
      const float *source = x + rows[i] * row + columns[j] * channels;
      for (int c = 0; c < channels; c += 4) wasm_v128_store(y + i * y_row + j * channels + c, wasm_v128_load(source + c));
    }
}

/* The first three of four channels from the bytes of a photo, RGBA, by the same two lists. */
KERNEL void floats(const byte *photo, int row, const int *rows, const int *columns, float *y, int y_row, int width, int from,
                   int to) {
  for (int i = from; i < to; i++)
    for (int j = 0; j < width; j++) {
      const byte *pixel = photo + rows[i] * row + columns[j] * 4;
      for (int c = 0; c < 3; c++) y[i * y_row + 4 * j + c] = pixel[c];
    }
}

/* The first convolution, w: [blocks of 8][taps][4][8], for a photo whose channels have a mean of 0 and a contrast of 1.
   sums: the moments of the photo's `count` pixels, 4 channels; coarse: those of `coarse_count` values of 8 channels that
   measure contrast. The last channel is the grain, which stays as it is. */
KERNEL void equalize(const float *sums, int rows, int count, const float *coarse, int coarse_rows, int coarse_count, float factor,
                     float least, float unit, const float *w, const float *bias, int taps, float *new_w, float *new_bias, int channels,
                     int from, int to) {
  if (from == to) return;
  double square = 0;
  for (int c = 0; c < 8; c++) square += total(coarse + 8 + c, coarse_rows, 16) / coarse_count / 8;
  const double gain = unit / __builtin_sqrt(square * factor + least);
  for (int c = 0; c < channels; c++) new_bias[c] = bias[c];
  for (int colour = 0; colour < 4; colour++) {
    const double mean = colour < 3 ? total(sums + colour, rows, 8) / count : 0;
    for (int c = 0; c < channels; c++)
      for (int t = 0; t < taps; t++) {
        const int at = c / 8 * taps * 32 + (4 * t + colour) * 8 + c % 8;
        new_w[at] = w[at] * (colour < 3 ? gain : 1);
        new_bias[c] -= new_w[at] * mean;
      }
  }
}

/* A pixel's bytes, RGBA, from the first three of four floats: whole numbers, 0 to 255. */
INLINE void store_pixel(byte *pixel, v128_t values) {
  const v128_t words = wasm_i32x4_trunc_sat_f32x4(wasm_f32x4_pmin(wasm_f32x4_splat(255), zero_or_more(values)));
  const v128_t halves = wasm_u16x8_narrow_i32x4(words, words), bytes = wasm_u8x16_narrow_i16x8(halves, halves);
  wasm_v128_store32_lane(pixel, wasm_i8x16_replace_lane(bytes, 3, -1), 0);
}

/* Bytes, RGBA, from 12 channels at half the size, the three colours of two times two pixels; rows and columns are cut from
   `start` on, which is even. */
KERNEL void bytes(const float *x, int row, byte *picture, int width, int start, int from, int to) {
  for (int i = from; i < to; i++) {
    const float *source = x + (i + start) / 2 * row + start / 2 * 12 + (i & 1 ? 6 : 0);
    for (int j = 0; j < width; j++) store_pixel(picture + 4 * (i * width + j), wasm_v128_load(source + j / 2 * 12 + (j & 1 ? 3 : 0)));
  }
}
