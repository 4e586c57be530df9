//! The page's state, and changes that its viewers make.

use std::sync::Arc;

use mq_net::http::{Answer, StatusCode};

use crate::change::Change;
use crate::fleet::{Fleet, Sources};
use crate::notify::{Origin, notify};
use crate::sessions::Sessions;
use crate::settings::Settings;
use crate::upstream::{Room, Upstream};
use crate::viewer::Viewer;
use crate::{actions, audit};

/// The page and what is behind it.
pub struct Admin {
    pub(crate) settings: Settings,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) sessions: Sessions,
    pub(crate) room: Room,
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
        Arc::new(Self {
            fleet: Arc::new(Fleet::new(sources)),
            sessions: Sessions::default(),
            room: Room::default(),
            settings,
        })
    }

    /// Makes a change for a viewer, logs it, and posts the notification.
    pub(crate) async fn act(
        &self,
        viewer: &Viewer,
        change: &Change,
        origin: &Origin,
    ) -> Result<actions::Done, Answer> {
        if !viewer.may_change {
            audit::change(viewer, change, "FORBIDDEN");
            return Err(Answer::error(StatusCode::FORBIDDEN, "FORBIDDEN"));
        }
        // Brokers and topics of a moment ago may be others now.
        self.fleet.forget();
        let done = match viewer.snapshot(self).await {
            Ok(snapshot) => actions::run(change, &snapshot, &self.fleet.sources(), &viewer.call).await,
            Err(nobody) => Err(nobody),
        };
        self.fleet.forget();
        let failure = match &done {
            Ok(done) => done.message(),
            Err(answer) => String::from_utf8_lossy(answer.body()).into_owned(),
        };
        audit::change(viewer, change, &failure);
        if let (Some(endpoint), Ok(_)) = (&self.settings.nsqadmin.notification_endpoint, &done) {
            notify(endpoint, &self.settings.nsqadmin.via, change, origin);
        }
        done
    }
}
