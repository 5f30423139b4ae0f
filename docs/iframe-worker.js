// A page of the file system may start no worker, which the search is. This one runs in an iframe.
class IFrameWorker extends EventTarget {
  constructor(url) {
    super()
    const iframe = document.createElement("iframe")
    iframe.hidden = true
    document.body.append(iframe)
    this.worker = iframe.contentWindow
    addEventListener("message", (event) => {
      if (event.source === this.worker)
        this.dispatchEvent(new MessageEvent("message", { data: event.data }))
    })
    this.worker.document.write(
      `<script>postMessage = (data) => parent.dispatchEvent(
        new MessageEvent("message", { data, source: window }))</script>
      <script src="${url}"></script>`,
    )
    this.worker.document.close()
  }

  postMessage(data) {
    this.worker.dispatchEvent(new MessageEvent("message", { data }))
  }
}

if (location.protocol === "file:") {
  window.IFrameWorker = IFrameWorker
  window.Worker = IFrameWorker
}
