#include <stdio.h>

#include <greeting.h>

#include "text.h"

int main(void)
{
    printf("%s, says libgreeting %s\n", TEXT, greeting_version());
    return 0;
}
