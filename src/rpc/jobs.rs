use leptos::prelude::*;
use uuid::Uuid;

use super::Json;
use crate::domain::batch::{Batch, BatchCancelled};
use crate::domain::bulk::{BulkAction, BulkDone, BulkWish, Matched};
use crate::domain::error::Problem;
use crate::domain::filter::JobFilter;
use crate::domain::job::{ActOptions, Job, JobDetail, JobId, NewJob};
use crate::domain::kind::KindInfo;
use crate::domain::page::{Page, PageRequest};
use crate::domain::stats::Overview;
use crate::domain::status::Action;

/// One part of the list of jobs that match `filter`.
#[server(prefix = "/rpc", endpoint = "list_jobs", input = Json, output = Json)]
pub async fn list_jobs(filter: JobFilter, page: PageRequest) -> Result<Page<Job>, Problem> {
    let (service, actor) = crate::server::http::rpc::caller()?;
    crate::server::http::rpc::answer(service.list_jobs(&actor, &filter, &page).await)
}

/// All of one job.
#[server(name = JobDetailCall, prefix = "/rpc", endpoint = "job_detail", input = Json, output = Json)]
pub async fn job_detail(id: JobId) -> Result<JobDetail, Problem> {
    let (service, actor) = crate::server::http::rpc::caller()?;
    crate::server::http::rpc::answer(service.job_detail(&actor, id).await)
}

/// Counts and health.
#[server(name = OverviewCall, prefix = "/rpc", endpoint = "overview", input = Json, output = Json)]
pub async fn overview() -> Result<Overview, Problem> {
    let (service, actor) = crate::server::http::rpc::caller()?;
    crate::server::http::rpc::answer(service.overview(&actor).await)
}

/// The kinds that can be enqueued.
#[server(prefix = "/rpc", endpoint = "kinds", input = Json, output = Json)]
pub async fn kinds() -> Result<Vec<KindInfo>, Problem> {
    let (service, actor) = crate::server::http::rpc::caller()?;
    crate::server::http::rpc::answer(service.kinds(&actor))
}

/// The names of the kinds that can be enqueued: what the Type filter offers.
#[server(name = KindNamesCall, prefix = "/rpc", endpoint = "kind_names", input = Json, output = Json)]
pub async fn kind_names() -> Result<Vec<String>, Problem> {
    let (service, actor) = crate::server::http::rpc::caller()?;
    let kinds = crate::server::http::rpc::answer(service.kinds(&actor))?;
    Ok(kinds.into_iter().map(|kind| kind.name).collect())
}

/// Enqueues one job.
#[server(prefix = "/rpc", endpoint = "enqueue", input = Json, output = Json)]
pub async fn enqueue(job: NewJob) -> Result<Job, Problem> {
    let (service, actor) = crate::server::http::rpc::caller()?;
    crate::server::http::rpc::answer(service.enqueue(&actor, job).await.map(|done| done.job))
}

/// Does `action` to one job and answers with the job as it is then: for Run again the copy, for Delete its last state.
#[server(prefix = "/rpc", endpoint = "act", input = Json, output = Json)]
pub async fn act(id: JobId, action: Action, options: ActOptions) -> Result<Job, Problem> {
    let (service, actor) = crate::server::http::rpc::caller()?;
    crate::server::http::rpc::answer(service.act(&actor, id, action, options).await)
}

/// Does `action` to many jobs: at once, or by a batch.
#[server(prefix = "/rpc", endpoint = "act_on_many", input = Json, output = Json)]
pub async fn act_on_many(action: BulkAction, wish: BulkWish) -> Result<BulkDone, Problem> {
    let (service, actor) = crate::server::http::rpc::caller()?;
    crate::server::http::rpc::answer(service.act_on_many(&actor, action, wish).await)
}

/// The jobs that match and that `action` can be done to.
#[server(name = MatchedCall, prefix = "/rpc", endpoint = "matched", input = Json, output = Json)]
pub async fn matched(action: BulkAction, filter: JobFilter) -> Result<Matched, Problem> {
    let (service, actor) = crate::server::http::rpc::caller()?;
    crate::server::http::rpc::answer(service.matched(&actor, action, &filter).await)
}

/// A batch and how far it is.
#[server(name = BatchCall, prefix = "/rpc", endpoint = "batch", input = Json, output = Json)]
pub async fn batch(id: Uuid) -> Result<Batch, Problem> {
    let (service, actor) = crate::server::http::rpc::caller()?;
    crate::server::http::rpc::answer(service.batch(&actor, id).await)
}

/// Cancels what waits of a batch, and asks what runs to stop.
#[server(prefix = "/rpc", endpoint = "cancel_batch", input = Json, output = Json)]
pub async fn cancel_batch(id: Uuid, reason: Option<String>) -> Result<BatchCancelled, Problem> {
    let (service, actor) = crate::server::http::rpc::caller()?;
    crate::server::http::rpc::answer(service.cancel_batch(&actor, id, reason).await)
}
