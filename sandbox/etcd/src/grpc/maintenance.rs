//! What is told of the store as a whole: its one member, its size, a snapshot.

use super::proto;
use super::{Api, Messages, VERSION};
use crate::{KeyRange, Query};
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

impl Api {
    pub(super) fn members(&self) -> proto::MemberListResponse {
        let member = proto::Member {
            id: self.member_id(),
            name: self.member.name.clone(),
            peer_urls: self.member.peer_urls.clone(),
            client_urls: self.member.client_urls.clone(),
        };
        proto::MemberListResponse { header: Some(self.header()), members: vec![member] }
    }

    pub(super) fn status(&self) -> proto::StatusResponse {
        let header = self.header();
        let size = i64::try_from(self.store.size_on_disk()).unwrap_or(i64::MAX);
        // There is no log but the history itself, so its index is the revision.
        let index = header.revision.unsigned_abs();
        proto::StatusResponse {
            header: Some(header),
            version: VERSION.into(),
            db_size: size,
            leader: self.member_id(),
            raft_index: index,
            raft_term: header.raft_term,
            raft_applied_index: index,
            db_size_in_use: size,
            storage_version: "3.6.0".into(),
        }
    }

    /// A checksum of all keys at a revision. It can be compared between stores of this kind, not with those of etcd.
    pub(super) fn hash_kv(&self, request: &proto::HashKvRequest) -> Result<proto::HashKvResponse, Status> {
        let at = if request.revision > 0 { request.revision } else { self.store.revision() };
        let query = Query { at: Some(at), ..Query::default() };
        let found = self.store.range(&KeyRange::prefix(""), &query)?;
        let mut sum = crc32fast::Hasher::new();
        for record in &found.records {
            let numbers = [record.create_revision, record.mod_revision, record.version, record.lease];
            for bytes in [&record.key, &record.value] {
                sum.update(&(bytes.len() as u64).to_le_bytes());
                sum.update(bytes);
            }
            for number in numbers {
                sum.update(&number.to_le_bytes());
            }
        }
        Ok(proto::HashKvResponse {
            header: Some(self.header()),
            hash: sum.finalize(),
            compact_revision: self.store.compacted(),
            hash_revision: at,
        })
    }

    pub(super) fn snapshot(&self) -> Messages<proto::SnapshotResponse> {
        let header = self.header();
        let mut pieces = self.store.snapshot();
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            for piece in &mut pieces {
                let response = piece.map(|piece| proto::SnapshotResponse {
                    header: Some(header),
                    remaining_bytes: 0,
                    blob: Bytes::from(piece),
                    version: VERSION.into(),
                });
                if sender.send(response.map_err(Status::from)).await.is_err() {
                    return;
                }
            }
        });
        ReceiverStream::new(receiver)
    }
}
