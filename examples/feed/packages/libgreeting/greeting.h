/* The version of the library that is loaded, for example "1.0.0". */
const char *greeting_version(void);
