// What the shared library shows: everything else in it is hidden.
#pragma once

#define FC_API extern "C" __attribute__((visibility("default")))
