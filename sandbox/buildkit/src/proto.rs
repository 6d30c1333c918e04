//! Names for the generated types, and small conversions. Nothing else in the crate names the generated modules.

pub use bollard_buildkit_proto::fsutil::types::packet::PacketType;
pub use bollard_buildkit_proto::fsutil::types::{Packet, Stat};
pub use bollard_buildkit_proto::google::protobuf::{Any, Timestamp};
pub use bollard_buildkit_proto::google::rpc;
pub use bollard_buildkit_proto::health;
pub use bollard_buildkit_proto::moby::buildkit::secrets::v1 as secrets;
pub use bollard_buildkit_proto::moby::buildkit::v1 as control;
pub use bollard_buildkit_proto::moby::buildkit::v1::apicaps::ApiCap;
pub use bollard_buildkit_proto::moby::buildkit::v1::frontend;
pub use bollard_buildkit_proto::moby::buildkit::v1::types::{BuildkitVersion, GcPolicy, WorkerRecord};
pub use bollard_buildkit_proto::moby::filesync::packet as packets;
pub use bollard_buildkit_proto::moby::filesync::v1 as filesync;
pub use bollard_buildkit_proto::moby::sshforward::v1 as ssh;
pub use bollard_buildkit_proto::moby::upload::v1 as upload;
pub use bollard_buildkit_proto::pb;

use std::time::{SystemTime, UNIX_EPOCH};

/// The time now.
pub fn now() -> Timestamp {
    timestamp(SystemTime::now())
}

/// A time as protobuf has it.
pub fn timestamp(time: SystemTime) -> Timestamp {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(since.subsec_nanos()).unwrap_or(0),
    }
}

/// The kind of a packet; `None`: one that nobody knows.
pub fn kind(packet: &Packet) -> Option<PacketType> {
    PacketType::try_from(packet.r#type).ok()
}

/// A packet without data.
pub fn packet(kind: PacketType) -> Packet {
    Packet { r#type: kind as i32, ..Packet::default() }
}
