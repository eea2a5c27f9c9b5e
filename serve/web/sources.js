/** Where pictures come from: a camera, a clip, a photo. */

/**
 * @typedef {object} Source
 * @property {any} element a video or an image
 * @property {boolean} moving
 * @property {() => void} stop
 * @property {number} width
 * @property {number} height
 */

/** What the page can say when the camera does not come, by the name of the browser's error. */
const REFUSALS = {
  NotAllowedError: "The camera is blocked for this page. Allow it at the camera sign in the address bar, then press Camera again.",
  NotFoundError: "No camera was found. Connect one and press Camera again, or open a photo or a clip.",
  OverconstrainedError: "No camera was found. Connect one and press Camera again, or open a photo or a clip.",
  NotReadableError: "Another program uses the camera. Close it there, then press Camera again.",
};

const ENDED = "The camera has stopped: it was unplugged, or this page may not use it any more. Connect and allow it, then press Camera again.";

/**
 * @param {number} side px, the least width that is asked for @param {string} deviceId "" for any camera
 * @param {(words: string) => void} ended is told when the camera stops unasked
 * @returns {Promise<Source>}
 */
export async function openCamera(side, deviceId, ended) {
  if (!self.isSecureContext || !navigator.mediaDevices)
    throw new Error("Browsers give the camera to secure pages only. Open this page over https:// or on localhost.");
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({
      video: { width: { ideal: Math.max(side, 640) }, ...(deviceId ? { deviceId: { exact: deviceId } } : {}) },
    });
  } catch (error) {
    throw new Error(REFUSALS[error.name] || `The camera can't be opened (${error.message}). Open a photo or a clip.`);
  }
  stream.getVideoTracks()[0].onended = () => ended(ENDED);
  const video = await playing((element) => (element.srcObject = stream));
  return source(video, true, () => stream.getTracks().forEach((track) => track.stop()));
}

/** @param {File} file @returns {Promise<Source>} */
export async function openFile(file) {
  const opened = await openAny(file);
  if (opened.width || !opened.moving) return opened;
  opened.stop();
  throw new Error(`${file.name || "The clip"} has sound and no picture. Choose a clip with a picture.`);
}

/** @param {File} file @returns {Promise<Source>} of which a clip may have no picture */
async function openAny(file) {
  const url = URL.createObjectURL(file);
  try {
    if (file.type.startsWith("video/")) {
      const video = await playing((element) => {
        element.src = url;
        element.loop = true;
      });
      return source(video, true, () => {
        video.pause();
        URL.revokeObjectURL(url);
      });
    }
    const image = new Image();
    image.src = url;
    await image.decode();
    return source(image, false, () => URL.revokeObjectURL(url));
  } catch {
    URL.revokeObjectURL(url);
    throw new Error(`${file.name || "The file"} is not a picture or a clip that this browser can read. Try a JPEG, PNG, MP4 or WebM.`);
  }
}

export async function cameras() {
  const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
  return devices.filter((device) => device.kind === "videoinput");
}

/** Draw what a source shows now onto a canvas, as large as that; what it lets through is white, as paper is. */
export function draw(context, element) {
  const { width, height } = context.canvas;
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.drawImage(element, 0, 0, width, height);
}

function source(element, moving, stop) {
  return {
    element,
    moving,
    stop,
    get width() {
      return element.videoWidth ?? element.naturalWidth;
    },
    get height() {
      return element.videoHeight ?? element.naturalHeight;
    },
  };
}

async function playing(prepare) {
  const video = document.createElement("video");
  video.muted = true;
  video.playsInline = true;
  prepare(video);
  await new Promise((resolve, reject) => {
    video.onloadeddata = resolve;
    video.onerror = () => reject(video.error);
  });
  await video.play();
  return video;
}
