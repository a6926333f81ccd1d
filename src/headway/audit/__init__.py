"""The audit log: who called what, and how it ended; imported only where one is kept."""

from headway.audit.audit_log import AuditLog
from headway.audit.audit_section import AuditConfig, parse_audit

__all__ = ["AuditConfig", "AuditLog", "parse_audit"]
