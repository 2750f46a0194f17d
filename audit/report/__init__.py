"""The audit report: its tables (`audit_tables`), its page (`write_audit_page`), and the retraining comparison (`retrain`)."""
