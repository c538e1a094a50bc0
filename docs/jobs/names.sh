# Who spoke when in my recordings, by name, this week and next.

# Monday: two people. The gallery is new, so both are unknown and are enrolled.
separative diarize monday.m4a --out results --gallery people --enrol-unknown --format rttm,srt

# Listen to both in results/monday.html, and give them their names.
separative gallery rename people monday-speaker1 Ann
separative gallery rename people monday-speaker2 Bob

# Tuesday: both are known. The results of Monday get their names too.
separative diarize monday.m4a tuesday.m4a --out results --gallery people --enrol-unknown --format rttm,srt
