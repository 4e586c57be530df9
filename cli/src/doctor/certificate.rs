//! The certificate that a broker shows over HTTPS.

use jiff::Timestamp;

use super::finding::Finding;

/// Days before its end from which on a certificate is worth a warning, as on the admin page.
const DAYS_LOW: i64 = 30;
const NEW_ONE: &str = "put a new one where --tls-cert names it, and send the broker SIGHUP";

/// A certificate that was accepted, by the time at which it expires, in seconds since 1970.
pub(super) fn judge(expires: u64, now: Timestamp) -> Option<Finding> {
    let end = Timestamp::from_second(i64::try_from(expires).ok()?).ok()?;
    let days = end.duration_since(now).as_hours() / 24;
    let day = end.strftime("%Y-%m-%d");
    Some(match end <= now {
        true => Finding::bad(format!("its certificate expired on {day}"), NEW_ONE),
        false if days < DAYS_LOW => {
            Finding::warn(format!("its certificate expires on {day}, in {days} days"), NEW_ONE)
        }
        false => Finding::ok(format!("its certificate is accepted here, and valid until {day}")),
    })
}

/// A certificate for which TLS failed at a port; `None` if `error` is about something else.
pub(super) fn refused(port: &str, error: &str) -> Option<Finding> {
    let words = error.to_ascii_lowercase().replace(' ', "");
    if !words.contains("certificate") {
        return None;
    }
    let (what, todo) = if words.contains("expired") {
        ("its certificate has expired", NEW_ONE)
    } else if words.contains("notvalidforname") {
        (
            "its certificate has another name",
            "give the broker's address by a name of the certificate, or that as --tls-server-name",
        )
    } else if words.contains("unknownissuer") {
        (
            "nobody whom this machine trusts has signed its certificate",
            "--tls-ca names a file with its issuer, or with the certificate itself",
        )
    } else if words.contains("causedasendentity") {
        (
            "its certificate is an authority's, which is none for a server",
            "make one for the server: openssl req -x509 wants -addext basicConstraints=CA:FALSE for that",
        )
    } else if words.contains("invalidpeercertificate") {
        (error, "give --tls-ca the file with the certificate's issuer, or mend the certificate")
    } else {
        return None;
    };
    Some(Finding::bad(format!("{port}: {what}"), todo))
}

#[cfg(test)]
mod tests {
    use super::super::finding::Grade;
    use super::*;

    #[test]
    fn a_certificate_near_its_end_is_a_warning_and_one_behind_it_is_bad() {
        let now: Timestamp = "2026-11-28T12:00:00Z".parse().unwrap();
        let after = |days: i64| judge((now.as_second() + days * 86_400) as u64, now).unwrap();
        assert_eq!(
            [31, 30, 29, 0, -1].map(|days| after(days).grade),
            [Grade::Ok, Grade::Ok, Grade::Warn, Grade::Bad, Grade::Bad]
        );
        assert_eq!(after(29).what, "its certificate expires on 2026-12-27, in 29 days");
        assert!(judge(u64::MAX, now).is_none());
    }

    #[test]
    fn the_reasons_for_which_tls_fails_are_said_with_what_to_do() {
        for (error, words) in [
            ("invalid peer certificate: UnknownIssuer", "nobody whom this machine trusts"),
            ("invalid peer certificate: certificate expired: verification time 3 (UNIX)", "has expired"),
            (
                "invalid peer certificate: certificate not valid for name \"a\"; it is only valid for b",
                "has another name",
            ),
            ("invalid peer certificate: NotValidForName", "has another name"),
            ("invalid peer certificate: Other(OtherError(CaUsedAsEndEntity))", "an authority's"),
            ("TLS: invalid peer certificate: BadSignature", "BadSignature"),
        ] {
            let finding = refused("https a:1", error).unwrap();
            assert!(finding.what.contains(words) && finding.todo.is_some(), "{error}: {}", finding.what);
        }
        assert_eq!(refused("https a:1", "connection expired"), None);
    }
}
