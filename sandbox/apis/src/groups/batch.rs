//! `batch/v1`.

use crate::defaults::batch;
use crate::kind::{Generation, Kind, Subresource};
use crate::prepare;
use crate::printers;
use crate::validation;
use drydock_apimachinery::object::int;

const BASE: Kind = Kind { group: "batch", categories: &["all"], generation: Generation::Spec, ..Kind::BASE };

pub static CRON_JOB: Kind = Kind {
    kind: "CronJob",
    plural: "cronjobs",
    singular: "cronjob",
    short: &["cj"],
    subresources: &[Subresource::status("CronJob")],
    defaults: batch::cron_job,
    prepare: prepare::empty_status,
    columns: printers::workloads::CRON_JOB,
    row: printers::workloads::cron_job,
    validate: validation::batch::validate_cron_job,
    warnings: crate::warnings::cron_job,
    ..BASE
};

pub static JOB: Kind = Kind {
    kind: "Job",
    plural: "jobs",
    singular: "job",
    subresources: &[Subresource::status("Job")],
    fields: &[("status.successful", |o| int(o, &["status", "succeeded"]).unwrap_or(0).to_string().into())],
    defaults: batch::job,
    prepare: batch::prepare_job,
    columns: printers::workloads::JOB,
    row: printers::workloads::job,
    validate: validation::batch::validate_job,
    validate_status: validation::batch::validate_job_status,
    warnings: crate::warnings::template,
    ..BASE
};
