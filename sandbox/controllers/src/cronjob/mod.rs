//! CronJobs: a Job at each time of a schedule (k8s.io/kubernetes/pkg/controller/cronjob). `schedule` knows the language of schedules,
//! `due` says which time is due, `control` asks the API server.

pub mod control;
pub mod due;
pub mod schedule;
