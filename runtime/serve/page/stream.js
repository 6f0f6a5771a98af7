// Reads the stream of messages (see feed.py): pairs of a record and a JPEG.

/** Yields [record, jpeg] for each message of the reader, until it ends. */
export async function* messages(reader) {
  let rest = new Uint8Array(0);
  const take = async (count) => {
    const parts = [rest];
    let length = rest.length;
    while (length < count) {
      const { value, done } = await reader.read();
      if (done) return null;
      parts.push(value);
      length += value.length;
    }
    const all = new Uint8Array(length);
    parts.reduce((at, part) => (all.set(part, at), at + part.length), 0);
    rest = all.subarray(count);
    return all.subarray(0, count);
  };
  for (;;) {
    const head = await take(8);
    if (!head) return;
    const view = new DataView(head.buffer, head.byteOffset);
    const [text, jpeg] = [await take(view.getUint32(0)), await take(view.getUint32(4))];
    if (!text || !jpeg) return;
    yield [JSON.parse(new TextDecoder().decode(text)), jpeg];
  }
}
