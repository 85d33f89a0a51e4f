//! Any bytes are a file of dpkg's database or an error; what is printed reads back.
#![no_main]

use kiln_debian::dpkg::account::Accounts;
use kiln_debian::dpkg::conffile::{parse_control, parse_field, print_field};
use kiln_debian::dpkg::diversion::Diversions;
use kiln_debian::dpkg::filter::Filters;
use kiln_debian::dpkg::list;
use kiln_debian::dpkg::statoverride::Overrides;
use kiln_debian::dpkg::status::Status;
use kiln_debian::dpkg::trigger::{self, FileInterests};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(status) = Status::parse(bytes) {
        assert_eq!(Status::parse(&status.print()), Ok(status));
    }
    let conffiles = parse_field(bytes);
    assert_eq!(parse_field(&print_field(&conffiles)), conffiles);
    let accounts = Accounts::parse(bytes);
    let _ = (parse_control(bytes), trigger::parse_control(bytes), FileInterests::parse(bytes));
    let _ = (Diversions::parse(bytes), Overrides::parse(bytes, &accounts, &accounts));
    let mut filters = Filters::default();
    filters.add(bytes);
    for path in list::parse(bytes) {
        let _ = filters.skips(path, true);
    }
});
