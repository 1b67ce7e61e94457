// Pixel-wise comparisons of two images, each as the RGBA values of a canvas.
// The modes of the structural similarity are those of models/metrics/ssim.py; the mean of a map is the SSIM of the image.
const C1 = (0.01 * 255) ** 2;
const C2 = (0.03 * 255) ** 2;
const GREY = {
  gray: [0.2125, 0.7154, 0.0721, 0],
  mean: [1 / 3, 1 / 3, 1 / 3, 0],
  ycbcr: [65.481 / 255, 128.553 / 255, 24.966 / 255, 16], // a constant enters the means
};

/** The absolute difference: the largest of the three channels. */
export function differenceMap(a, b) {
  return Float64Array.from({ length: a.length / 4 }, (_, i) =>
    Math.max(...[0, 1, 2].map((channel) => Math.abs(a[4 * i + channel] - b[4 * i + channel]))),
  );
}

/** The SSIM of each full window, the mean over the channels; values[0] is that of the window in the top left corner. */
export function ssimMap(a, b, width, height, mode) {
  const weights = mode.endsWith("7") ? Array(7).fill(1 / 7) : gaussian(5, 1.5);
  const bessel = mode.endsWith("7") ? 49 / 48 : 1; // the sample covariance, as scikit-image computes it
  const [mapWidth, mapHeight] = [width - weights.length + 1, height - weights.length + 1];
  const [planes, others] = [channels(a, mode), channels(b, mode)];
  const values = new Float64Array(mapWidth * mapHeight);
  planes.forEach((x, channel) => {
    const y = others[channel];
    const average = (value) => filter(Float64Array.from(x, (_, i) => value(x[i], y[i])), width, height, weights);
    const [mx, my] = [average((p) => p), average((_, q) => q)];
    const [squares, products] = [average((p, q) => p * p + q * q), average((p, q) => p * q)];
    for (let i = 0; i < values.length; i++) {
      const both = squares[i] - mx[i] * mx[i] - my[i] * my[i];
      const cross = products[i] - mx[i] * my[i];
      const above = (2 * mx[i] * my[i] + C1) * (2 * bessel * cross + C2);
      const below = (mx[i] * mx[i] + my[i] * my[i] + C1) * (bessel * both + C2);
      values[i] += above / below / planes.length;
    }
  });
  return { values, width: mapWidth, height: mapHeight, margin: (weights.length - 1) / 2 };
}

export const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

function channels(pixels, mode) {
  const grey = GREY[mode.split(/7|-/)[0]];
  const of = (read) => Float64Array.from({ length: pixels.length / 4 }, (_, i) => read(4 * i));
  if (!grey) return [0, 1, 2].map((channel) => of((at) => pixels[at + channel]));
  return [of((at) => grey[0] * pixels[at] + grey[1] * pixels[at + 1] + grey[2] * pixels[at + 2] + grey[3])];
}

function gaussian(radius, sigma) {
  const values = Array.from({ length: 2 * radius + 1 }, (_, i) => Math.exp(-((i - radius) ** 2) / (2 * sigma ** 2)));
  const total = values.reduce((sum, value) => sum + value, 0);
  return values.map((value) => value / total);
}

/** The weighted mean of every full window. */
function filter(plane, width, height, weights) {
  const size = weights.length;
  const [outWidth, outHeight] = [width - size + 1, height - size + 1];
  const rows = new Float64Array(outWidth * height);
  for (let y = 0; y < height; y++)
    for (let x = 0; x < outWidth; x++) {
      let sum = 0;
      for (let k = 0; k < size; k++) sum += weights[k] * plane[y * width + x + k];
      rows[y * outWidth + x] = sum;
    }
  const found = new Float64Array(outWidth * outHeight);
  for (let y = 0; y < outHeight; y++)
    for (let x = 0; x < outWidth; x++) {
      let sum = 0;
      for (let k = 0; k < size; k++) sum += weights[k] * rows[(y + k) * outWidth + x];
      found[y * outWidth + x] = sum;
    }
  return found;
}
