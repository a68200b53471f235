//! Names of hosts and users, in a program that is linked statically.
//!
//! glibc loads what /etc/nsswitch.conf names from the machine. A static program has a glibc of its own, and
//! one of another version's modules ends it with a signal. Files and DNS are linked in.

/// Must run before any name is looked up.
#[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
pub fn use_what_is_linked_in() {
    use std::ffi::{CStr, c_char, c_int};
    unsafe extern "C" {
        fn __nss_configure_lookup(database: *const c_char, services: *const c_char) -> c_int;
    }
    let wanted: [(&CStr, &CStr); 3] = [
        (c"hosts", c"files dns"),
        (c"passwd", c"files"),
        (c"group", c"files"),
    ];
    for (database, services) in wanted {
        // SAFETY: both are strings that end, and are copied; no other thread runs yet.
        unsafe { __nss_configure_lookup(database.as_ptr(), services.as_ptr()) };
    }
}

#[cfg(not(all(target_env = "gnu", target_feature = "crt-static")))]
pub fn use_what_is_linked_in() {}
