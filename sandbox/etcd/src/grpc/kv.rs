//! Keys and leases over gRPC.

use super::proto::{self, compare, request_op, response_op};
use super::{Api, Messages};
use crate::{
    Compare, CompareOp, Error, Found, KeyRange, Op, OpResult, Query, Record, Target, Txn, TxnResult,
};
use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

/// A record as etcd shows it.
pub(super) fn key_value(record: &Record) -> proto::KeyValue {
    proto::KeyValue {
        key: record.key.clone(),
        create_revision: record.create_revision,
        mod_revision: record.mod_revision,
        version: record.version,
        value: record.value.clone(),
        lease: record.lease,
    }
}

impl Api {
    pub(super) fn range(&self, request: &proto::RangeRequest) -> Result<proto::RangeResponse, Status> {
        let (keys, query) = question(request)?;
        let found = self.store.range(&keys, &query)?;
        Ok(self.found(found, request))
    }

    pub(super) async fn put(&self, request: proto::PutRequest) -> Result<proto::PutResponse, Status> {
        let is_prev_wanted = request.prev_kv;
        let txn = Txn { then: vec![put_op(request)?], ..Txn::default() };
        let done = self.store.txn(txn).await?;
        let prev = match done.results.into_iter().next() {
            Some(OpResult::Put { prev, .. }) if is_prev_wanted => prev.as_deref().map(key_value),
            _ => None,
        };
        Ok(proto::PutResponse { header: Some(self.header_at(done.revision)), prev_kv: prev })
    }

    pub(super) async fn delete_range(
        &self,
        request: proto::DeleteRangeRequest,
    ) -> Result<proto::DeleteRangeResponse, Status> {
        let is_prev_wanted = request.prev_kv;
        let txn = Txn { then: vec![delete_op(request)], ..Txn::default() };
        let done = self.store.txn(txn).await?;
        let gone = match done.results.into_iter().next() {
            Some(OpResult::Delete(gone)) => gone,
            _ => Vec::new(),
        };
        Ok(self.deleted(&gone, done.revision, is_prev_wanted))
    }

    fn deleted(
        &self,
        gone: &[Arc<Record>],
        revision: i64,
        is_prev_wanted: bool,
    ) -> proto::DeleteRangeResponse {
        proto::DeleteRangeResponse {
            header: Some(self.header_at(revision)),
            deleted: count(gone.len()),
            prev_kvs: if is_prev_wanted {
                gone.iter().map(|record| key_value(record)).collect()
            } else {
                vec![]
            },
        }
    }

    pub(super) async fn txn(&self, request: proto::TxnRequest) -> Result<proto::TxnResponse, Status> {
        let proto::TxnRequest { compare, success, failure } = request;
        let ops = |ops: &[proto::RequestOp]| ops.iter().map(op).collect::<Result<Vec<_>, Status>>();
        let txn = Txn {
            compares: compare.into_iter().map(comparison).collect::<Result<_, _>>()?,
            then: ops(&success)?,
            otherwise: ops(&failure)?,
        };
        let TxnResult { succeeded, revision, results } = self.store.txn(txn).await?;
        let asked = if succeeded { &success } else { &failure };
        let responses = asked.iter().zip(results).map(|(asked, result)| {
            let response = match (&asked.request, result) {
                (Some(request_op::Request::Range(asked)), OpResult::Range(found)) => {
                    response_op::Response::Range(self.found(found, asked))
                }
                (Some(request_op::Request::Put(asked)), OpResult::Put { prev, .. }) => {
                    let prev = prev.filter(|_| asked.prev_kv);
                    response_op::Response::Put(proto::PutResponse {
                        header: Some(self.header_at(revision)),
                        prev_kv: prev.as_deref().map(key_value),
                    })
                }
                (Some(request_op::Request::DeleteRange(asked)), OpResult::Delete(gone)) => {
                    response_op::Response::DeleteRange(self.deleted(&gone, revision, asked.prev_kv))
                }
                _ => return proto::ResponseOp::default(),
            };
            proto::ResponseOp { response: Some(response) }
        });
        let responses = responses.collect();
        Ok(proto::TxnResponse { header: Some(self.header_at(revision)), succeeded, responses })
    }

    pub(super) async fn compact(
        &self,
        request: &proto::CompactionRequest,
    ) -> Result<proto::HeaderOnly, Status> {
        self.store.compact(request.revision).await?;
        Ok(proto::HeaderOnly { header: Some(self.header()) })
    }

    pub(super) async fn grant(
        &self,
        request: &proto::LeaseGrantRequest,
    ) -> Result<proto::LeaseResponse, Status> {
        let id = self.store.grant(request.id, request.ttl).await?;
        Ok(proto::LeaseResponse { header: Some(self.header()), id, ttl: request.ttl.max(1) })
    }

    pub(super) async fn revoke(&self, request: &proto::LeaseId) -> Result<proto::HeaderOnly, Status> {
        self.store.revoke(request.id).await?;
        Ok(proto::HeaderOnly { header: Some(self.header()) })
    }

    pub(super) fn keep_alive(
        self,
        mut messages: Streaming<proto::LeaseId>,
    ) -> Messages<proto::LeaseResponse> {
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            while let Ok(Some(proto::LeaseId { id })) = messages.message().await {
                let answer = match self.store.keep_alive(id).await {
                    Ok(ttl) => Ok(proto::LeaseResponse { header: Some(self.header()), id, ttl }),
                    // How etcd says that it is gone.
                    Err(Error::LeaseNotFound) => {
                        Ok(proto::LeaseResponse { header: Some(self.header()), id, ttl: 0 })
                    }
                    Err(error) => Err(error.into()),
                };
                if sender.send(answer).await.is_err() {
                    return;
                }
            }
        });
        ReceiverStream::new(receiver)
    }

    pub(super) fn time_to_live(
        &self,
        request: &proto::LeaseTimeToLiveRequest,
    ) -> Result<proto::LeaseTimeToLiveResponse, Status> {
        let mut response = proto::LeaseTimeToLiveResponse {
            header: Some(self.header()),
            id: request.id,
            ttl: -1,
            ..Default::default()
        };
        let state = self.store.inner.read();
        if let Ok((granted, left)) = state.leases.time_to_live(request.id) {
            response.granted_ttl = granted;
            response.ttl = left;
            if request.keys {
                response.keys = state.leases.keys(request.id)?.cloned().collect();
            }
        }
        Ok(response)
    }

    pub(super) fn all_leases(&self) -> proto::LeaseLeasesResponse {
        let header = Some(self.header());
        let state = self.store.inner.read();
        let leases = state.leases.all().map(|(id, _)| proto::LeaseId { id }).collect();
        proto::LeaseLeasesResponse { header, leases }
    }

    /// What was found as it was asked for. etcd counts the keys of the range whatever limits and filters say (txn/range.go).
    fn found(&self, found: Found, asked: &proto::RangeRequest) -> proto::RangeResponse {
        let Found { mut records, mut more, count: all, revision } = found;
        if is_shaped(asked) {
            let bounds = |value: i64, least: i64, most: i64| {
                (least == 0 || value >= least) && (most == 0 || value <= most)
            };
            records.retain(|record| {
                bounds(record.mod_revision, asked.min_mod_revision, asked.max_mod_revision)
                    && bounds(record.create_revision, asked.min_create_revision, asked.max_create_revision)
            });
            sort(&mut records, asked);
            if let Some(limit) = limit(asked)
                && records.len() > limit
            {
                records.truncate(limit);
                more = true;
            }
        }
        let shown = |record: &Arc<Record>| {
            let value = if asked.keys_only { Bytes::new() } else { record.value.clone() };
            proto::KeyValue { value, ..key_value(record) }
        };
        proto::RangeResponse {
            header: Some(self.header_at(revision)),
            kvs: records.iter().map(shown).collect(),
            more,
            count: count(all),
        }
    }
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn limit(asked: &proto::RangeRequest) -> Option<usize> {
    usize::try_from(asked.limit).ok().filter(|limit| *limit > 0)
}

/// True if all records of the range must be looked at before the limit applies.
fn is_shaped(asked: &proto::RangeRequest) -> bool {
    asked.sort_order() == proto::SortOrder::Descend
        || asked.sort_target() != proto::SortTarget::Key
        || [
            asked.min_mod_revision,
            asked.max_mod_revision,
            asked.min_create_revision,
            asked.max_create_revision,
        ]
        .iter()
        .any(|bound| *bound != 0)
}

fn sort(records: &mut [Arc<Record>], asked: &proto::RangeRequest) {
    match asked.sort_target() {
        proto::SortTarget::Key => {}
        proto::SortTarget::Version => records.sort_by_key(|record| record.version),
        proto::SortTarget::Create => records.sort_by_key(|record| record.create_revision),
        proto::SortTarget::Mod => records.sort_by_key(|record| record.mod_revision),
        proto::SortTarget::Value => records.sort_by(|a, b| a.value.cmp(&b.value)),
    }
    if asked.sort_order() == proto::SortOrder::Descend {
        records.reverse();
    }
}

fn question(asked: &proto::RangeRequest) -> Result<(KeyRange, Query), Status> {
    if asked.key.is_empty() {
        return Err(Error::EmptyKey.into());
    }
    let query = Query {
        at: (asked.revision > 0).then_some(asked.revision),
        limit: if is_shaped(asked) { 0 } else { limit(asked).unwrap_or(0) },
        count_only: asked.count_only,
        count: true,
    };
    Ok((KeyRange::of_etcd(asked.key.clone(), asked.range_end.clone()), query))
}

fn put_op(request: proto::PutRequest) -> Result<Op, Status> {
    if request.ignore_value && !request.value.is_empty() {
        return Err(Status::invalid_argument("etcdserver: value is provided"));
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(Status::invalid_argument("etcdserver: lease is provided"));
    }
    Ok(Op::Put {
        key: request.key,
        value: (!request.ignore_value).then_some(request.value),
        lease: (!request.ignore_lease).then_some(request.lease),
    })
}

fn delete_op(request: proto::DeleteRangeRequest) -> Op {
    Op::Delete(KeyRange::of_etcd(request.key, request.range_end))
}

fn op(asked: &proto::RequestOp) -> Result<Op, Status> {
    match &asked.request {
        Some(request_op::Request::Range(request)) => {
            let (keys, query) = question(request)?;
            Ok(Op::Range(keys, query))
        }
        Some(request_op::Request::Put(request)) => put_op(request.clone()),
        Some(request_op::Request::DeleteRange(request)) => Ok(delete_op(request.clone())),
        Some(request_op::Request::Txn(_)) => {
            Err(Status::unimplemented("a transaction within a transaction is not supported"))
        }
        None => Err(Error::EmptyKey.into()),
    }
}

fn comparison(asked: proto::Compare) -> Result<Compare, Status> {
    let invalid = || Status::invalid_argument("etcdserver: invalid compare");
    let op = match proto::CompareResult::try_from(asked.result).map_err(|_| invalid())? {
        proto::CompareResult::Equal => CompareOp::Equal,
        proto::CompareResult::Greater => CompareOp::Greater,
        proto::CompareResult::Less => CompareOp::Less,
        proto::CompareResult::NotEqual => CompareOp::NotEqual,
    };
    use proto::CompareTarget as Of;
    let target = match (Of::try_from(asked.target).map_err(|_| invalid())?, asked.union) {
        (Of::Version, Some(compare::Union::Version(with))) => Target::Version(with),
        (Of::Create, Some(compare::Union::CreateRevision(with))) => Target::Create(with),
        (Of::Mod, Some(compare::Union::ModRevision(with))) => Target::Mod(with),
        (Of::Value, Some(compare::Union::Value(with))) => Target::Value(with),
        (Of::Lease, Some(compare::Union::Lease(with))) => Target::Lease(with),
        // In Go the absent branch of a union reads as zero.
        (Of::Version, _) => Target::Version(0),
        (Of::Create, _) => Target::Create(0),
        (Of::Mod, _) => Target::Mod(0),
        (Of::Lease, _) => Target::Lease(0),
        (Of::Value, _) => return Err(invalid()),
    };
    if asked.key.is_empty() {
        return Err(Error::EmptyKey.into());
    }
    Ok(Compare { keys: KeyRange::of_etcd(asked.key, asked.range_end), op, target })
}
