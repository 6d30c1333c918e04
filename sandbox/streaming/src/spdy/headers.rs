//! Header blocks of SPDY/3.1 (sections 2.6.10 and 2.6.10.1 of the draft): name-value pairs, compressed with one zlib stream a
//! direction, which knows a dictionary beforehand. Called by the connection for every block in turn, because the stream goes on from
//! one to the next. A block that unpacks to more than a request needs is an error, found before it fills memory.

use std::collections::HashMap;

use bytes::Buf as _;
use flate2::{Decompress, FlushDecompress, Status};

use super::frame::FrameError;

const MAX_BLOCK: usize = 32 * 1024;
const MAX_HEADERS: u32 = 64;

/// Words of the dictionary that have their length before them.
const WORDS: [&str; 65] = [
    "options",
    "head",
    "post",
    "put",
    "delete",
    "trace",
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "connection",
    "content-base",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-md5",
    "content-range",
    "content-type",
    "date",
    "etag",
    "expect",
    "expires",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "referer",
    "retry-after",
    "server",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "method",
    "get",
    "status",
    "200 OK",
    "version",
    "HTTP/1.1",
    "url",
    "public",
    "set-cookie",
    "keep-alive",
    "origin",
];
const TAIL: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 Non-Authoritative \
Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 \
Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, \
GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-\
age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

pub(super) fn dictionary() -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1423);
    for word in WORDS {
        bytes.extend_from_slice(&(word.len() as u32).to_be_bytes());
        bytes.extend_from_slice(word.as_bytes());
    }
    bytes.extend_from_slice(TAIL.as_bytes());
    bytes
}

/// The headers that a client sends.
pub(super) struct Headers {
    stream: Decompress,
}

impl Headers {
    pub(super) fn new() -> Self {
        Self { stream: Decompress::new(true) }
    }

    /// Unpacks and reads the next block.
    pub(super) fn read(&mut self, block: &[u8]) -> Result<HashMap<String, String>, FrameError> {
        parse(&self.unpack(block)?)
    }

    fn unpack(&mut self, block: &[u8]) -> Result<Vec<u8>, FrameError> {
        let mut plain = Vec::with_capacity(1024);
        let mut rest = block;
        loop {
            let before = (self.stream.total_in(), self.stream.total_out());
            let result = self.stream.decompress_vec(rest, &mut plain, FlushDecompress::Sync);
            let read = usize::try_from(self.stream.total_in() - before.0).unwrap_or(usize::MAX);
            rest = rest.get(read..).unwrap_or_default();
            match result {
                Ok(Status::Ok | Status::BufError) => {}
                Ok(Status::StreamEnd) => return Err(FrameError::Headers),
                Err(error) if error.needs_dictionary().is_some() => {
                    self.stream.set_dictionary(&dictionary()).map_err(|_| FrameError::Headers)?;
                    continue;
                }
                Err(_) => return Err(FrameError::Headers),
            }
            if plain.len() == plain.capacity() {
                if plain.len() >= MAX_BLOCK {
                    return Err(FrameError::HeadersTooLong);
                }
                plain.reserve(plain.len());
            } else if rest.is_empty() {
                return Ok(plain);
            } else if read == 0 && self.stream.total_out() == before.1 {
                return Err(FrameError::Headers);
            }
        }
    }
}

/// Number, then length and bytes of each name and value. Several values of a name have a zero byte between them; Kubernetes' headers
/// have one.
fn parse(mut bytes: &[u8]) -> Result<HashMap<String, String>, FrameError> {
    let count = bytes.try_get_u32().map_err(|_| FrameError::Headers)?;
    if count > MAX_HEADERS {
        return Err(FrameError::HeadersTooLong);
    }
    let mut headers = HashMap::new();
    for _ in 0..count {
        let name = text(&mut bytes)?.to_ascii_lowercase();
        let value = text(&mut bytes)?;
        headers.insert(name, value.split('\0').next().unwrap_or_default().to_owned());
    }
    Ok(headers)
}

fn text(bytes: &mut &[u8]) -> Result<String, FrameError> {
    let length = bytes.try_get_u32().map_err(|_| FrameError::Headers)? as usize;
    let text = bytes.get(..length).ok_or(FrameError::Headers)?;
    let text = std::str::from_utf8(text).map_err(|_| FrameError::Headers)?.to_owned();
    bytes.advance(length);
    Ok(text)
}

/// A block without headers, as the next piece of our zlib stream. All that we ever send is this, so the stream is written by hand, in
/// stored blocks (RFC 1951, section 3.2.4), and no compressor with its quarter of a megabyte is needed for it. The empty block at the end is
/// what a flush leaves: without it Go's decompressor looks for the next block, meets the end, and never reads again.
pub(super) fn empty_block(first: bool) -> &'static [u8] {
    const BLOCK: &[u8; 16] = &[0x78, 0x01, 0, 4, 0, 0xfb, 0xff, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
    if first { BLOCK } else { &BLOCK[2..] }
}

#[cfg(test)]
pub(crate) mod client {
    //! The client's compressor, for tests.

    use flate2::{Compress, Compression, FlushCompress};

    pub(crate) struct Compressor(Compress);

    impl Compressor {
        pub(crate) fn new() -> Self {
            let mut stream = Compress::new(Compression::best(), true);
            stream.set_dictionary(&super::dictionary()).unwrap();
            Self(stream)
        }

        pub(crate) fn pack(&mut self, plain: &[u8]) -> Vec<u8> {
            let mut packed = Vec::with_capacity(plain.len() / 100 + 4096);
            self.0.compress_vec(plain, &mut packed, FlushCompress::Sync).unwrap();
            packed
        }

        pub(crate) fn headers(&mut self, headers: &[(&str, &str)]) -> Vec<u8> {
            let mut plain = (headers.len() as u32).to_be_bytes().to_vec();
            for (name, value) in headers {
                for text in [name, value] {
                    plain.extend_from_slice(&(text.len() as u32).to_be_bytes());
                    plain.extend_from_slice(text.as_bytes());
                }
            }
            self.pack(&plain)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::client::Compressor;
    use super::*;

    #[test]
    fn the_dictionary_is_the_protocols() {
        let bytes = dictionary();
        let (mut low, mut high) = (1u32, 0u32);
        for byte in &bytes {
            low = (low + u32::from(*byte)) % 65521;
            high = (high + low) % 65521;
        }
        // The Adler-32 that every SPDY/3 client names in its first header block.
        assert_eq!((bytes.len(), high << 16 | low), (1423, 0xe3c6_a7c2));
    }

    #[test]
    fn blocks_go_on_from_one_to_the_next() {
        let (mut client, mut server) = (Compressor::new(), Headers::new());
        for number in 0..50 {
            let value = number.to_string();
            let block = client.headers(&[("streamtype", "data"), ("port", "80"), ("requestid", &value)]);
            let headers = server.read(&block).unwrap();
            assert_eq!(
                (headers["streamtype"].as_str(), headers["requestid"].as_str()),
                ("data", value.as_str())
            );
        }
        let long = "x".repeat(5000);
        assert_eq!(
            server.read(&client.headers(&[("a", &long)])).unwrap()["a"],
            long,
            "a block may be longer than its first buffer"
        );
    }

    #[test]
    fn bombs_and_rubbish_are_errors() {
        let mut client = Compressor::new();
        let bomb = client.pack(&vec![0; 20 * 1024 * 1024]);
        assert!(bomb.len() < 32 * 1024, "the bomb fits a frame");
        assert!(matches!(Headers::new().read(&bomb), Err(FrameError::HeadersTooLong)));
        assert!(matches!(Headers::new().read(b"rubbish"), Err(FrameError::Headers)));
        assert!(matches!(
            Headers::new().read(&Compressor::new().pack(&[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff])),
            Err(FrameError::Headers)
        ));
        assert!(matches!(
            Headers::new().read(&Compressor::new().pack(&[0xff; 4])),
            Err(FrameError::HeadersTooLong)
        ));
    }

    #[test]
    fn our_empty_blocks_are_one_zlib_stream() {
        let mut stream = Decompress::new(true);
        for first in [true, false, false] {
            let mut plain = Vec::with_capacity(16);
            stream.decompress_vec(empty_block(first), &mut plain, FlushDecompress::Sync).unwrap();
            assert_eq!(plain, [0; 4]);
        }
    }
}
