// How Python and a peer in Node.js talk: crops come in on stdin, lines of JSON go out on stdout.
//
// A crop is its height and width, each an unsigned number of 4 bytes, the lowest first, then its pixels, RGB, 3 bytes
// each, row by row. The first line is the description of the peer; every further line is the answer to one crop:
// {"probabilities": [...], "milliseconds": ...}.

const HEADER = 8;

/** Answer every crop until stdin ends. `predict({height, width, rgb})` gives the content of a line. */
export async function answer(description, predict) {
  console.log = console.error; // a package's own messages are no answers
  write(description);
  let bytes = Buffer.alloc(0);
  for await (const chunk of process.stdin) {
    bytes = Buffer.concat([bytes, chunk]);
    for (let size = sizeOf(bytes); bytes.length >= size; size = sizeOf(bytes)) {
      const rgb = new Uint8Array(bytes.subarray(HEADER, size));
      write(await predict({ height: bytes.readUInt32LE(0), width: bytes.readUInt32LE(4), rgb }));
      bytes = bytes.subarray(size);
    }
  }
}

/** The length of the crop that the bytes begin with; infinite as long as its header is not complete. */
function sizeOf(bytes) {
  return bytes.length < HEADER ? Infinity : HEADER + 3 * bytes.readUInt32LE(0) * bytes.readUInt32LE(4);
}

function write(value) {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}
