//! What the person has filled in so far, and how it is sent.

use leptos::html;
use leptos::prelude::*;
use leptos::task::spawn_local;
use serde_json::Value;

use super::answer::{accepted, refusal};
use super::schema::{self, Field};
use super::values::{self, Errors, Values};
use crate::browser::{
    self,
    upload::{self, Upload},
};
use crate::domain::error::{Problem, ProblemCode};
use crate::domain::job::{JobId, Lane, NewJob};
use crate::domain::kind::KindInfo;
use crate::rpc::enqueue;
use crate::ui::components::json::pretty;
use crate::ui::signed::lead_to_sign_in;

/// Where files go.
const UPLOAD_URL: &str = "/api/events/import";

/// Fields that are not the kind's own, by the names that the API gives them.
pub const QUEUE: &str = "queue";
pub const PRIORITY: &str = "priority";
pub const DELAY: &str = "delay";
pub const RUN_AT: &str = "run_at";
pub const UNIQUE_KEY: &str = "unique_key";
pub const TIMEOUT: &str = "timeout";
pub const OPTIONS: [&str; 6] = [QUEUE, PRIORITY, DELAY, RUN_AT, UNIQUE_KEY, TIMEOUT];

/// Errors that belong to no field.
pub const GENERAL: &str = "";

/// The form's state. The kind's own fields go by `args.` and their path, as the server calls them.
#[derive(Clone, Copy)]
pub struct Form {
    pub kind: RwSignal<Option<KindInfo>>,
    pub fields: Memo<Vec<Field>>,
    pub values: RwSignal<Values>,
    /// The args as JSON text, while that is what is edited.
    pub raw: RwSignal<Option<String>>,
    pub errors: RwSignal<Errors>,
    pub busy: RwSignal<bool>,
    /// The part of the file that is sent, 0 to 1.
    pub sent: RwSignal<Option<f64>>,
    pub file: NodeRef<html::Input>,
    upload: StoredValue<Option<Upload>>,
    done: Callback<JobId>,
}

impl Form {
    /// `done` is told the new job's id.
    pub fn new(done: Callback<JobId>) -> Self {
        let kind = RwSignal::new(None::<KindInfo>);
        Self {
            kind,
            fields: Memo::new(move |_| {
                let mut fields = kind.with(|k| k.as_ref().map(|k| schema::fields(&k.args_schema)).unwrap_or_default());
                schema::under("args", &mut fields);
                fields
            }),
            values: RwSignal::new(Values::new()),
            raw: RwSignal::new(None),
            errors: RwSignal::new(Errors::new()),
            busy: RwSignal::new(false),
            sent: RwSignal::new(None),
            file: NodeRef::new(),
            upload: StoredValue::new(None),
            done,
        }
    }

    /// Asks for another kind's args; queue, priority and the like stay.
    pub fn choose(self, kind: KindInfo) {
        self.kind.set(Some(kind));
        let fields = self.fields.get_untracked();
        let defaults = values::defaults(&fields);
        self.values.update(|values| {
            values.retain(|path, _| OPTIONS.contains(&path.as_str()));
            values.extend(defaults);
        });
        // Where there is no form there is the JSON; a kind that takes no args needs neither.
        let open = self
            .kind
            .with_untracked(|kind| kind.as_ref().is_some_and(|kind| kind.external));
        self.raw.set((open && fields.is_empty()).then(|| "{}".to_string()));
        self.errors.set(Errors::new());
    }

    pub fn value(self, path: &str) -> String {
        self.values.with(|v| v.get(path).cloned()).unwrap_or_default()
    }

    pub fn set(self, path: &str, value: String) {
        self.values.update(|v| {
            v.insert(path.to_string(), value);
        });
        self.forgive(path);
    }

    /// Takes the complaint about a field back: it is being changed.
    pub fn forgive(self, path: &str) {
        if self.errors.with_untracked(|e| e.contains_key(path)) {
            self.errors.update(|e| {
                e.remove(path);
            });
        }
    }

    /// Whether the args can be given as fields, and not as JSON alone.
    pub fn has_fields(self) -> bool {
        let open = self.kind.with(|kind| kind.as_ref().is_some_and(|kind| kind.external));
        !open || self.fields.with(|fields| !fields.is_empty())
    }

    pub fn takes_file(self) -> bool {
        self.fields.with(|f| schema::upload_path(f).is_some())
    }

    /// Whether a file goes with the form: one that was chosen, or that has to be.
    fn sends_file(self) -> bool {
        let chosen = || {
            let input = self.file.get_untracked();
            input.is_some_and(|i| upload::chosen(&i).is_some())
        };
        untrack(|| self.takes_file()) && (self.fields.with_untracked(|f| schema::needs_upload(f)) || chosen())
    }

    /// Changes between the fields and their JSON. JSON that can't be read stays where it is, with the reason.
    pub fn toggle_raw(self) {
        let fields = self.fields.get_untracked();
        match self.raw.get_untracked() {
            None => {
                let args = self
                    .values
                    .with_untracked(|v| values::build(&fields, v))
                    .unwrap_or_else(|_| Value::Object(Default::default()));
                self.raw.set(Some(pretty(&args)));
                self.errors.set(Errors::new());
            }
            Some(text) => match serde_json::from_str::<Value>(&text) {
                Ok(args) => {
                    let filled = values::fill(&fields, &args);
                    self.values.update(|values| {
                        values.retain(|path, _| OPTIONS.contains(&path.as_str()));
                        values.extend(filled);
                    });
                    self.raw.set(None);
                    self.errors.set(Errors::new());
                }
                Err(e) => self.complain("args", format!("This is not JSON: {e}.")),
            },
        }
    }

    fn complain(self, path: &str, why: String) {
        self.errors.update(|e| {
            e.insert(path.to_string(), why);
        });
    }

    fn finished(self, id: JobId) {
        // The dialog may have been closed meanwhile; then nobody waits for the job.
        self.done.try_run(id);
    }

    fn refused(self, problem: Problem) {
        lead_to_sign_in(&problem);
        self.busy.try_set(false);
        self.sent.try_set(None);
        let Some(fields) = self.fields.try_get_untracked() else {
            return;
        };
        let raw = self.raw.try_get_untracked().flatten().is_some();
        let place = problem
            .field
            .map_or_else(|| GENERAL.to_string(), |field| place(&field, &fields, raw));
        self.errors.try_set(Errors::from([(place, problem.detail)]));
        show_first_error();
    }

    /// Sends the form.
    pub fn submit(self) {
        if self.busy.get_untracked() {
            return;
        }
        self.errors.set(Errors::new());
        match self.job() {
            Err(errors) => {
                self.errors.set(errors);
                show_first_error();
            }
            Ok(job) if self.sends_file() => self.send_file(&job),
            Ok(job) => {
                self.busy.set(true);
                spawn_local(async move {
                    match enqueue(job).await {
                        Ok(job) => self.finished(job.id),
                        Err(problem) => self.refused(problem),
                    }
                });
            }
        }
    }

    /// What the form asks for, or what is wrong with which field.
    fn job(self) -> Result<NewJob, Errors> {
        let error = |path: &str, why: &str| Errors::from([(path.to_string(), why.to_string())]);
        let kind = self
            .kind
            .get_untracked()
            .ok_or_else(|| error(GENERAL, "Choose a job type."))?;
        let values = self.values.get_untracked();
        let args = match self.raw.get_untracked() {
            Some(text) => serde_json::from_str(&text).map_err(|e| error("args", &format!("This is not JSON: {e}.")))?,
            None => values::build(&self.fields.get_untracked(), &values)?,
        };
        let text = |path: &str| values.get(path).map(|v| v.trim()).filter(|v| !v.is_empty());
        let mut job = NewJob::of(&kind.name, args);
        job.queue = text(QUEUE).map(Into::into);
        job.priority = text(PRIORITY).and_then(Lane::parse);
        job.unique_key = text(UNIQUE_KEY).map(Into::into);
        let seconds = |path: &str| {
            let parsed = text(path).map(str::parse).transpose();
            parsed.map_err(|_| error(path, "This must be a whole number of seconds."))
        };
        job.delay = seconds(DELAY)?;
        job.timeout = seconds(TIMEOUT)?;
        if let Some(at) = text(RUN_AT) {
            let at = values::utc(at).and_then(|t| t.parse().ok());
            job.run_at = Some(at.ok_or_else(|| error(RUN_AT, "This must be a date and a time."))?);
        }
        if job.delay.is_some() && job.run_at.is_some() {
            return Err(error(RUN_AT, "Give either a delay or a time."));
        }
        Ok(job)
    }

    fn send_file(self, job: &NewJob) {
        let place = self
            .fields
            .with_untracked(|fields| schema::upload_path(fields))
            .unwrap_or_default();
        let Some(input) = self.file.get_untracked().filter(|i| upload::chosen(i).is_some()) else {
            self.complain(&place, "Choose a file.".into());
            show_first_error();
            return;
        };
        // The endpoint takes the kind's other args as fields of their own.
        let texts: Vec<(String, String)> = job
            .args
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, value)| {
                (
                    name.clone(),
                    value.as_str().map_or_else(|| value.to_string(), str::to_string),
                )
            })
            .collect();
        let fields: Vec<(&str, &str)> = texts.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        self.busy.set(true);
        self.sent.set(Some(0.0));
        let running = upload::upload(
            UPLOAD_URL,
            &fields,
            &input,
            move |part| {
                self.sent.try_set(Some(part));
            },
            move |answer| match answer {
                Ok(body) => match accepted(&body) {
                    Some(id) => self.finished(id),
                    None => self.refused(Problem::new(
                        ProblemCode::Internal,
                        "The server's answer can't be understood.",
                    )),
                },
                Err((status, body)) => self.refused(refusal(status, &body)),
            },
        );
        if running.is_none() {
            self.refused(Problem::new(ProblemCode::Internal, "The file can't be read."));
        }
        self.upload.set_value(running);
    }
}

/// Moves focus to the first field that has an error, once it is marked.
fn show_first_error() {
    browser::next_frame(|| {
        browser::focus_selector(".new-job-form [aria-invalid=true]");
    });
}

/// The field of the form that shows an error of what the server calls `field`.
fn place(field: &str, fields: &[Field], raw: bool) -> String {
    if OPTIONS.contains(&field) {
        return field.to_string();
    }
    if raw {
        return if field.starts_with("args") { "args" } else { GENERAL }.to_string();
    }
    // Uploads call the args by their own names, and the file "file".
    let own = format!("args.{field}");
    [field, &own]
        .into_iter()
        .find(|path| schema::has(fields, path))
        .map(str::to_string)
        .or_else(|| (field == "file").then(|| schema::upload_path(fields)).flatten())
        .unwrap_or_else(|| GENERAL.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn errors_find_their_fields() {
        let schema = json!({"properties": {
            "upload": {"type": "string", "format": "windlass-upload"},
            "filter": {"type": "object", "properties": {"from": {"type": "string"}}}
        }});
        let mut fields = schema::fields(&schema);
        schema::under("args", &mut fields);
        for (field, raw, expected) in [
            ("args.filter.from", false, "args.filter.from"),
            ("args.filter.from", true, "args"),
            ("queue", true, "queue"),
            ("file", false, "args.upload"),
            ("upload", false, "args.upload"),
            ("type", false, GENERAL),
            ("args.filter", false, GENERAL),
        ] {
            assert_eq!(place(field, &fields, raw), expected, "{field}");
        }
    }
}
