//! exec, attach and port-forward as Kubernetes clients speak them: WebSocket channels and SPDY/3.1.
