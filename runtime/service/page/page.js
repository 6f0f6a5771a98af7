// Tries the service's two addresses: one picture from a file, or the frames of this computer's camera.

const byId = (id) => document.getElementById(id);
const canvas = byId("picture");
const pen = canvas.getContext("2d");
const LONGEST_SIDE = 640;  // of a camera's frame that is sent

function show(image, record) {
  canvas.width = image.width;
  canvas.height = image.height;
  pen.drawImage(image, 0, 0);
  pen.strokeStyle = pen.fillStyle = "#19c819";
  pen.lineWidth = Math.max(2, image.width / 300);
  pen.font = `${Math.max(14, image.width / 40)}px sans-serif`;
  for (const {box: [x, y, width, height], expression, probability, uncertain} of record.faces ?? []) {
    pen.strokeRect(x, y, width, height);
    pen.fillText(uncertain ? "uncertain" : `${expression} ${Math.round(100 * probability)}%`, x, y - pen.lineWidth);
  }
  byId("problem").textContent = record.error ?? "";
  byId("answer").textContent = JSON.stringify(record, null, 1);
}

byId("file").addEventListener("change", async (event) => {
  try {
    const [file] = event.target.files;
    const reply = await fetch("v1/faces", {method: "POST", body: file});
    show(await createImageBitmap(file), await reply.json());
  } catch (error) {
    byId("problem").textContent = error.message;
  }
});

// Sends a frame, waits for its record, shows both, and takes the next frame: no answer is of an old picture.
async function watch(video) {
  const address = new URL("v1/camera", location.href);
  address.protocol = address.protocol.replace("http", "ws");
  const socket = new WebSocket(address);
  const scale = Math.min(1, LONGEST_SIDE / Math.max(video.videoWidth, video.videoHeight));
  const frame = new OffscreenCanvas(Math.round(scale * video.videoWidth), Math.round(scale * video.videoHeight));
  const send = async () => {
    frame.getContext("2d").drawImage(video, 0, 0, frame.width, frame.height);
    socket.send(await frame.convertToBlob({type: "image/jpeg", quality: 0.9}));
  };
  socket.onopen = send;
  socket.onmessage = ({data}) => { show(frame, JSON.parse(data)); send(); };
  socket.onclose = ({reason}) => { byId("problem").textContent = `The connection is closed. ${reason}`; };
}

byId("start").addEventListener("click", async () => {
  try {
    const video = document.createElement("video");
    video.srcObject = await navigator.mediaDevices.getUserMedia({video: true});
    await video.play();
    await watch(video);
  } catch (error) {
    byId("problem").textContent = `No camera: ${error.message}. A browser gives it to localhost and https only.`;
  }
});
