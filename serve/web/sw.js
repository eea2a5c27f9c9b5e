/** Offline once loaded, and isolated (which threads need) on hosts that can't send the headers. */
const worker = /** @type {ServiceWorkerGlobalScope} */ (/** @type {unknown} */ (self));
const CACHE = "allaprima";
const STUDIO = new URL("studio/", worker.registration.scope).pathname;

worker.addEventListener("install", () => worker.skipWaiting());
worker.addEventListener("activate", (event) => event.waitUntil(worker.clients.claim()));
worker.addEventListener("fetch", (event) => {
  const { request } = event;
  const url = new URL(request.url);
  if (url.pathname.startsWith(STUDIO)) return; // what is at work there is never an old answer
  if (request.method === "GET" && url.origin === location.origin) event.respondWith(answer(request));
});

/** The network's answer, so that a new version is seen at once; the stored one where there is no network. */
async function answer(request) {
  const cache = await caches.open(CACHE);
  try {
    const fresh = await fetch(request);
    if (fresh.ok && fresh.type === "basic") await cache.put(request, fresh.clone());
    return isolated(fresh);
  } catch (error) {
    const stored = await cache.match(request);
    if (!stored) throw error;
    return isolated(stored);
  }
}

/** @param {Response} response */
function isolated(response) {
  if (response.type !== "basic" && response.type !== "default") return response;
  const headers = new Headers(response.headers);
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  return new Response(response.body, { status: response.status, statusText: response.statusText, headers });
}
