//! What the image `hello-world` runs: says that the way from `docker run` to a process works, and which way that was.

use std::io::Write;

const MESSAGE: &str = "
Hello from Docker!
This message shows that your installation appears to be working correctly.

To generate this message, Docker took the following steps:
 1. The Docker client contacted the Docker engine of this node.
 2. The engine pulled the \"hello-world\" image from this playground's catalogue.
 3. The engine created a new container from that image which runs the
    executable that produces the output you are currently reading.
 4. The engine streamed that output to the Docker client, which sent it
    to your terminal.

To try something more ambitious, you can run a Debian container with:
 $ docker run -it debian bash
";

fn main() {
    // A reader that went away is no failure of this program.
    let _reader_gone = std::io::stdout().write_all(MESSAGE.as_bytes());
}
