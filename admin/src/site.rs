//! The page, wherever it is served.

use std::sync::Arc;

use mq_net::http::{Answer, Api, Handling, HostNames, Method, Request, Route, Site, StatusCode, header};

use crate::admin::Admin;
use crate::settings::Credentials;
use crate::{data, nsqadmin, page};

impl Admin {
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
        // A page that shows brokers a token of its own lends it to whoever reaches the page: a name that
        // somebody made lead here is no way to it, from this machine or another.
        let has_token = matches!(admin.settings.credentials, Credentials::Own(Some(_)));
        let hosts = if has_token { hosts.for_everybody() } else { hosts };
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
