// The gateway's API, as its host calls it: GATEWAY_URL=http://127.0.0.1:8080 HOST_TOKEN=…
const { GATEWAY_URL, HOST_TOKEN } = process.env;

/** What the API answers; a body is posted. */
export async function api(path, body) {
  const headers = { authorization: `Bearer ${HOST_TOKEN}`, "content-type": "application/json" };
  const request = body === undefined ? { headers } : { method: "POST", headers, body: JSON.stringify(body) };
  const answer = await fetch(new URL(`/api/v1${path}`, GATEWAY_URL), request);
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
  return answer;
}

/** The address by which somebody of this name comes into the room in this role. */
export async function invitation(name, role) {
  const answer = await api("/rooms/demo/tokens", { name, role });
  return (await answer.json()).studio_url;
}
