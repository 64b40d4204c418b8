"""Payment retries and refunds: their schedule is a row in the database, so that no restart loses an attempt or doubles one."""

from caravan.service import Periodic
from services.payments.use_cases import charge, give_back

PERIODIC = (Periodic("captures", 0.5, charge.resume), Periodic("refunds", 0.5, give_back.refund_due))
