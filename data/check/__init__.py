"""What a record file holds and what it is enough for: `profile.profile_records`, `allowance.allow`, `labels.require_labels`;
`cli` is the command `merchantguard check`."""
