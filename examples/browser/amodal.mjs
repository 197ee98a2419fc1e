// Completes objects in the browser: amodalseg/data/window.py and amodalseg/models/windowed.py in JavaScript, and
// ONNX Runtime's WebAssembly for the network. Photos are ImageData, masks are Uint8Array (height * width) of 0 and 1.

import * as ort from "./node_modules/onnxruntime-web/dist/ort.wasm.min.mjs";

ort.env.wasm.numThreads = 1; // several threads need a server that sends COOP and COEP headers

const FORMAT = "amodalseg-onnx-1";

export class Model {
  // bytes: Uint8Array, a file written by `amodalseg export`. Throws an Error with one line for other files.
  static async open(bytes) {
    const about = metadata(bytes);
    if (about.format !== FORMAT) throw new Error(`this is no file in the format ${FORMAT}: amodalseg export writes one`);
    if (about.weights_sha256) throw new Error("this file holds the graph without its weights: export it without --graph-only");
    const session = await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] });
    return new Model(session, JSON.parse(about.model));
  }

  constructor(session, config) {
    this.session = session;
    this.config = config;
    const noise = session.inputMetadata.find((input) => input.name === "noise");
    this.numNoiseMaps = noise.shape[0];
  }

  // The noise of one object is Float32Array (maps * size * size), standard normal.
  noise(seed) {
    return standardNormal(seed, this.numNoiseMaps * this.config.window.size ** 2);
  }

  // The amodal mask, from the modal mask. Throws an Error if the modal mask is empty.
  async complete(photo, modal, noise) {
    const size = this.config.window.size;
    const window = objectWindow(modal, photo.width, photo.height, this.config.window);
    const { probability } = await this.session.run({
      image: new ort.Tensor("uint8", cropImage(photo, window), [1, 3, size, size]),
      modal: new ort.Tensor("uint8", cropMask(modal, photo.width, photo.height, window), [1, 1, size, size]),
      noise: new ort.Tensor("float32", noise, [this.numNoiseMaps, 1, 1, size, size]),
    });
    const { threshold, union_visible: union } = this.config.post;
    const mask = pasteMask(probability.data, window, photo.width, photo.height, threshold);
    return union ? mask.map((value, place) => value | modal[place]) : mask;
  }
}

// The box of the visible part, doubled in width and height and clipped at the photo's border (c2f), or a square around it.
export function objectWindow(modal, width, height, { kind, size, expand, margin }) {
  let [x0, y0, x1, y1] = [width, height, 0, 0];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (!modal[y * width + x]) continue;
      [x0, x1, y0, y1] = [Math.min(x0, x), Math.max(x1, x + 1), Math.min(y0, y), y + 1];
    }
  }
  if (x1 === 0) throw new Error("mark the visible part of an object first");
  const round = (value) => Math.floor(value + 0.5);
  const [w, h] = [x1 - x0, y1 - y0];
  let [wide, high] = [2 * w, 2 * h];
  if (kind === "square") {
    wide = high = Math.max(1, round(Math.max(Math.sqrt(expand * w * h), margin * w, margin * h)));
  }
  let [left, top] = [round((x0 + x1 - wide) / 2), round((y0 + y1 - high) / 2)];
  if (kind === "c2f") {
    const [right, bottom] = [Math.min(left + wide, width), Math.min(top + high, height)];
    [left, top] = [Math.max(0, left), Math.max(0, top)];
    [wide, high] = [right - left, bottom - top];
  }
  return { left, top, width: wide, height: high, size };
}

// Uint8Array (3 * size * size), channel by channel; black outside the photo.
function cropImage(photo, window) {
  const { left, top, width, height, size } = window;
  const crop = new Uint8Array(3 * size * size);
  for (let channel = 0; channel < 3; channel++) {
    const patch = new Float32Array(width * height);
    for (let y = Math.max(0, -top); y < Math.min(height, photo.height - top); y++) {
      for (let x = Math.max(0, -left); x < Math.min(width, photo.width - left); x++) {
        patch[y * width + x] = photo.data[4 * ((y + top) * photo.width + x + left) + channel];
      }
    }
    const small = resize(patch, width, height, size, size);
    for (let place = 0; place < small.length; place++) crop[channel * size * size + place] = Math.round(small[place]);
  }
  return crop;
}

// Uint8Array (size * size), by nearest neighbours; 0 outside the photo.
function cropMask(mask, width, height, window) {
  const { size } = window;
  const nearest = (start, length, i) => start + Math.floor(((2 * i + 1) * length) / (2 * size));
  const crop = new Uint8Array(size * size);
  for (let i = 0; i < size; i++) {
    const y = nearest(window.top, window.height, i);
    for (let j = 0; j < size; j++) {
      const x = nearest(window.left, window.width, j);
      if (y >= 0 && y < height && x >= 0 && x < width) crop[i * size + j] = mask[y * width + x];
    }
  }
  return crop;
}

// The mask of values above the threshold, in the photo.
function pasteMask(values, window, width, height, threshold) {
  const { left, top, size } = window;
  const full = resize(values, size, size, window.width, window.height);
  const mask = new Uint8Array(width * height);
  for (let y = Math.max(0, -top); y < Math.min(window.height, height - top); y++) {
    for (let x = Math.max(0, -left); x < Math.min(window.width, width - left); x++) {
      if (full[y * window.width + x] > threshold) mask[(y + top) * width + x + left] = 1;
    }
  }
  return mask;
}

// Average along an axis that shrinks, linear along one that grows. Float32Array (height * width) -> (high * wide).
function resize(values, width, height, wide, high) {
  const columns = shares(width, wide), rows = shares(height, high);
  const narrow = new Float32Array(height * wide), result = new Float32Array(high * wide);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < wide; x++) {
      for (const [from, share] of columns[x]) narrow[y * wide + x] += share * values[y * width + from];
    }
  }
  for (let y = 0; y < high; y++) {
    for (const [from, share] of rows[y]) {
      for (let x = 0; x < wide; x++) result[y * wide + x] += share * narrow[from * wide + x];
    }
  }
  return result;
}

// For each of `count` pixels its source pixels out of `length`, as [position, weight]. Pixel i covers [i, i + 1).
function shares(length, count) {
  const scale = length / count;
  return Array.from({ length: count }, (_, i) => {
    if (scale <= 1) {
      const centre = Math.min(Math.max((i + 0.5) * scale - 0.5, 0), length - 1), first = Math.floor(centre);
      return [[first, 1 - (centre - first)], [Math.min(first + 1, length - 1), centre - first]];
    }
    const [start, end] = [i * scale, Math.min((i + 1) * scale, length)], found = [];
    for (let from = Math.floor(start); from < end; from++) {
      const share = (Math.min(from + 1, end) - Math.max(from, start)) / (end - start);
      if (share > 1e-9) found.push([from, share]);
    }
    return found;
  });
}

// The Box-Muller method on mulberry32: the same numbers for a seed in every browser, but not those of Python.
function standardNormal(seed, count) {
  let state = seed >>> 0;
  const uniform = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let z = Math.imul(state ^ (state >>> 15), state | 1);
    z ^= z + Math.imul(z ^ (z >>> 7), z | 61);
    return (((z ^ (z >>> 14)) >>> 0) + 0.5) / 2 ** 32;
  };
  return Float32Array.from({ length: count }, () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform()));
}

// The metadata of an ONNX file: metadata_props, field 14 of the message ModelProto.
function metadata(bytes) {
  const text = new TextDecoder(), found = {};
  for (const [field, entry] of fields(bytes)) {
    if (field !== 14) continue;
    const pair = Object.fromEntries(fields(entry));
    found[text.decode(pair[1])] = text.decode(pair[2]);
  }
  return found;
}

// The fields of type bytes of a protobuf message, as [number, Uint8Array]. Throws an Error if it is invalid.
function* fields(bytes) {
  let at = 0;
  const number = () => {
    let value = 0;
    for (let power = 1; at < bytes.length && power < 2 ** 53; power *= 128) {
      const byte = bytes[at++];
      value += (byte & 127) * power;
      if (byte < 128) return value;
    }
    throw new Error("this is no complete ONNX file");
  };
  while (at < bytes.length) {
    const key = number(), kind = key % 8;
    if (kind === 0) number();
    else if (kind === 1 || kind === 5) at += kind === 1 ? 8 : 4;
    else if (kind === 2) {
      const length = number();
      if (at + length > bytes.length) throw new Error("this is no complete ONNX file");
      yield [Math.floor(key / 8), bytes.subarray(at, at + length)];
      at += length;
    } else throw new Error("this is no complete ONNX file");
  }
}
