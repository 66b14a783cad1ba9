"use strict";
show("sessions", {});
