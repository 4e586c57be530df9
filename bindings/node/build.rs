//! Link arguments of an addon.

fn main() {
    napi_build::setup();
    // Threads of the client run on after the last environment that loaded the addon has ended, as worker
    // threads do: their code has to stay.
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
}
