// Keeps "your devices" up to date. When the session ends, so does the stream; the browser asks for it once more, is told
// that there is nothing, and the page is loaded again, which asks to sign in. Without a connection it goes on asking.
const changes = new EventSource("/devices/changes");
changes.onmessage = () => location.reload();
changes.onerror = () => { if (changes.readyState === EventSource.CLOSED) location.reload(); };
