//! What sending and receiving of files have in common: options in gRPC metadata, and passing packets on.

use crate::error::failed;
use crate::proto::Packet;
use prost::Message;
use tokio::sync::mpsc;
use tonic::metadata::{AsciiMetadataValue, MetadataKey, MetadataMap};
use tonic::{Status, Streaming};

/// Puts values under a name, escaped if a header could not carry them (then `NAME-encoded` is 1, session/filesync's convention).
///
/// # Errors
/// Never for names of this crate.
pub fn encode(metadata: &mut MetadataMap, name: &str, values: &[String]) -> Result<(), Status> {
    let key = |name: &str| {
        MetadataKey::from_bytes(name.as_bytes()).map_err(|_| Status::internal("bad metadata name"))
    };
    let plain = |value: &String| {
        value.bytes().all(|b| (0x20..0x7f).contains(&b)) && value.trim_matches(' ').len() == value.len()
    };
    let escaped = !values.iter().all(plain);
    for value in values {
        let value = if escaped { query_escape(value) } else { value.clone() };
        let value = AsciiMetadataValue::try_from(value).map_err(|_| Status::internal("bad metadata"))?;
        metadata.append(key(name)?, value);
    }
    if escaped {
        metadata.insert(key(&format!("{name}-encoded"))?, AsciiMetadataValue::from_static("1"));
    }
    Ok(())
}

/// Go's `url.QueryEscape`.
fn query_escape(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
        out
    })
}

/// Passes packets on until the stream ends or nobody wants them any more.
///
/// # Errors
/// If the client ended the stream with one.
pub async fn pump(
    mut stream: Streaming<Packet>,
    packets: mpsc::Sender<Packet>,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<(), Status> {
    let mut bytes = 0;
    loop {
        match stream.message().await {
            Ok(Some(packet)) => {
                bytes += packet.encoded_len() as u64;
                progress(bytes);
                if packets.send(packet).await.is_err() {
                    return Ok(());
                }
            }
            Ok(None) => return Ok(()),
            Err(status) => return Err(failed(status.message())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_headers_cannot_carry_are_escaped() {
        let mut metadata = MetadataMap::new();
        encode(&mut metadata, "plain", &["a b".into(), "**/*.o".into()]).unwrap();
        encode(&mut metadata, "other", &["ä b".into(), "c\n".into()]).unwrap();
        let all = |name| metadata.get_all(name).iter().map(|v| v.to_str().unwrap()).collect::<Vec<_>>();
        assert_eq!(all("plain"), ["a b", "**/*.o"]);
        assert!(metadata.get("plain-encoded").is_none());
        assert_eq!(all("other"), ["%C3%A4+b", "c%0A"]);
        assert_eq!(all("other-encoded"), ["1"]);
    }
}
