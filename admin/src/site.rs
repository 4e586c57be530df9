//! The page, wherever it is served.

use std::sync::Arc;

use mq_net::http::{Answer, Api, Handling, HostNames, Method, Request, Route, Site, StatusCode, header};

use crate::fleet::{Fleet, Sources};
use crate::notify::{Origin, notify};
use crate::sessions::Sessions;
use crate::settings::Settings;
use crate::upstream::Upstream;
use crate::viewer::Viewer;
use crate::{actions, audit, data, nsqadmin, page};

/// The page and what is behind it.
pub struct Admin {
    pub(crate) settings: Settings,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) sessions: Sessions,
}

impl Admin {
    /// The page that `settings` describe. Nothing is asked of anybody before somebody looks.
    pub fn new(settings: Settings) -> Arc<Self> {
        let local =
            |server: &Option<(String, _)>| server.clone().map(|(id, server)| Upstream::local(id, server));
        let configured = |addresses: &[String]| -> Vec<Upstream> {
            addresses.iter().map(|address| Upstream::configured(address, settings.tls.clone())).collect()
        };
        let mut sources =
            Sources { lookups: configured(&settings.lookups), nodes: configured(&settings.nodes) };
        sources.lookups.extend(local(&settings.local_lookup));
        sources.nodes.extend(local(&settings.local_broker));
        Arc::new(Self { fleet: Arc::new(Fleet::new(sources)), sessions: Sessions::default(), settings })
    }

    /// Makes a change for a viewer, logs it, and posts the notification.
    pub(crate) async fn act(
        &self,
        viewer: &Viewer,
        request: &actions::Request,
        origin: &Origin,
    ) -> Result<actions::Done, Answer> {
        if !viewer.may_change {
            audit::change(viewer, request, "FORBIDDEN");
            return Err(Answer::error(StatusCode::FORBIDDEN, "FORBIDDEN"));
        }
        // Brokers and topics of a moment ago may be others now.
        self.fleet.forget();
        let done = match viewer.snapshot(self).await {
            Ok(snapshot) => actions::run(request, &snapshot, &self.fleet.sources, &viewer.call).await,
            Err(nobody) => Err(nobody),
        };
        self.fleet.forget();
        let failure = match &done {
            Ok(done) => done.message(),
            Err(answer) => String::from_utf8_lossy(answer.body()).into_owned(),
        };
        audit::change(viewer, request, &failure);
        if let (Some(endpoint), Ok(_)) = (&self.settings.nsqadmin.notification_endpoint, &done) {
            notify(endpoint, &self.settings.name, request, origin);
        }
        done
    }

    async fn route(self: Arc<Self>, request: Request) -> Answer {
        let path = request.path().to_owned();
        let Some(rest) = path.strip_prefix(self.settings.base.as_str()) else {
            return Answer::redirect(StatusCode::FOUND, &self.settings.base);
        };
        if let Some(view) = rest.strip_prefix("data/") {
            let answer = data::answer(&self, view, request).await.unwrap_or_else(|error| error);
            return answer.header(header::CACHE_CONTROL, "no-store");
        }
        if nsqadmin::has(rest) {
            let answer = nsqadmin::answer(&self, rest, request).await.unwrap_or_else(|error| error);
            return answer.header(header::CACHE_CONTROL, "no-store");
        }
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return Answer::error(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED");
        }
        if let Some(file) = page::file(rest, &request) {
            return file;
        }
        match nsqadmin::page_of(rest) {
            Some(place) => Answer::redirect(StatusCode::FOUND, &format!("{}#/{place}", self.settings.base)),
            None => Answer::not_found(),
        }
    }
}

impl Site for Admin {
    fn has(&self, path: &str) -> bool {
        let base = self.settings.base.as_str();
        path.starts_with(base) || base.strip_suffix('/') == Some(path)
    }

    fn answer(self: Arc<Self>, request: Request) -> Handling {
        Box::pin(async move { page::secured(self.route(request).await) })
    }
}

/// The page on a port of its own.
pub struct Alone {
    admin: Arc<Admin>,
    hosts: HostNames,
}

impl Alone {
    /// Serves `admin`; `hosts` are the names by which clients on this machine may reach it without a token.
    pub fn new(admin: Arc<Admin>, hosts: HostNames) -> Arc<Self> {
        Arc::new(Self { admin, hosts })
    }
}

impl Api for Alone {
    const ROUTES: &'static [Route<Self>] = &[];

    fn hosts(&self) -> Option<&HostNames> {
        let asks = self.admin.settings.access.as_ref().is_some_and(|access| !access.is_open());
        (!asks).then_some(&self.hosts)
    }

    fn site(&self, request: &Request) -> Result<Option<Arc<dyn Site>>, Answer> {
        let path = request.path();
        // Whoever comes to the port wants the page.
        match self.admin.has(path) {
            true => Ok(Some(Arc::clone(&self.admin) as Arc<dyn Site>)),
            false if path == "/" => Err(Answer::redirect(StatusCode::FOUND, &self.admin.settings.base)),
            false => Ok(None),
        }
    }

    async fn admit(&self, _: Option<&'static Route<Self>>, _: &mut Request) -> Result<(), Answer> {
        Ok(())
    }
}
